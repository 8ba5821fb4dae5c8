-- Generations that stay beside the live one: a standby to go back to, and pasts, which are folded up to a vector and then left alone.
ALTER TABLE generation DROP CONSTRAINT generation_state_check;
ALTER TABLE generation ADD CONSTRAINT generation_state_check
    CHECK (state IN ('building', 'live', 'standby', 'past', 'retired'));
-- Next offset of each partition, from 0 on, beyond which no worker folds it. NULL: no bound.
ALTER TABLE generation ADD COLUMN until bigint[];
-- Which past it belongs to.
ALTER TABLE generation ADD COLUMN past text;
-- Which code began it: a rebuild that was broken off goes on only with the same.
ALTER TABLE generation ADD COLUMN code text;

-- A past is a generation of every projection, and views over them in the schema <namespace>_past_<name>. `asked` is how it was asked for.
CREATE TABLE past (
    name        text PRIMARY KEY,
    vector      text NOT NULL,
    asked       text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- What a worker folds: `live` generations, or what is replayed beside them.
ALTER TABLE worker ADD COLUMN kinds text[] NOT NULL DEFAULT '{live,replay}';
