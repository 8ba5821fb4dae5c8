-- What Postgres alone knows: which generations exist, who works, who holds which partition.
CREATE TABLE generation (
    projection   text NOT NULL,
    number       integer NOT NULL,
    schema_name  text NOT NULL UNIQUE,
    state        text NOT NULL CHECK (state IN ('building', 'live', 'retired')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    switched_at  timestamptz,
    PRIMARY KEY (projection, number)
);
CREATE UNIQUE INDEX generation_live ON generation (projection) WHERE state = 'live';

-- A worker lives while its session does: backend_pid and backend_start name the session.
CREATE TABLE worker (
    worker_id      text PRIMARY KEY,
    host           text NOT NULL,
    pid            integer NOT NULL,
    release        text NOT NULL,
    backend_pid    integer NOT NULL,
    backend_start  timestamptz NOT NULL,
    seen_at        timestamptz NOT NULL DEFAULT now(),
    blocked        text[] NOT NULL DEFAULT '{}'
);

-- Who works on which partition for which handler (a generation's schema, or a reaction). Free: worker_id is null.
CREATE TABLE lease (
    handler    text NOT NULL,
    topic      text NOT NULL,
    partition  integer NOT NULL,
    worker_id  text REFERENCES worker ON DELETE SET NULL,
    since      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (handler, topic, partition)
);

-- How far each reaction has acted. Unlike checkpoints these survive a replay: a reaction never fires again because of one.
CREATE TABLE reaction_cursor (
    reaction     text NOT NULL,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    log_id       text NOT NULL,
    genesis_id   uuid NOT NULL,
    next_offset  bigint NOT NULL,
    PRIMARY KEY (reaction, topic, partition)
);
