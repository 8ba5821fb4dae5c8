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

CREATE TABLE worker (
    worker_id      text PRIMARY KEY,
    host           text NOT NULL,
    pid            integer NOT NULL,
    release        text NOT NULL,
    backend_pid    integer NOT NULL,
    backend_start  timestamptz NOT NULL,
    seen_at        timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE lease (
    schema_name  text NOT NULL,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    worker_id    text NOT NULL REFERENCES worker ON DELETE CASCADE,
    taken_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schema_name, topic, partition)
);
CREATE INDEX lease_worker ON lease (worker_id);
