-- Objects whose bytes are not those that the log tells of. `found`: what was there instead.
CREATE TABLE artifact_damage (
    object_key  text PRIMARY KEY,
    owner       text NOT NULL,
    path        text NOT NULL,
    expected    text NOT NULL,
    found       text NOT NULL,
    seen_at     timestamptz NOT NULL DEFAULT now()
);

-- How far the reading of all files has come: one row. begun_at is null between two passes; owner and path are those of the file that
-- was read last, `files` how many this pass has read; a server has the work until held_until.
CREATE TABLE artifact_check (
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    owner       text COLLATE "C" NOT NULL DEFAULT '',
    path        text COLLATE "C" NOT NULL DEFAULT '',
    files       bigint NOT NULL DEFAULT 0,
    total_bytes bigint NOT NULL DEFAULT 0,
    begun_at    timestamptz,
    ended_at    timestamptz,
    holder      text,
    held_until  timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO artifact_check DEFAULT VALUES;
