-- Attempts of a run in the order of their first appearance in the log. '' is the attempt of writers that name none.
CREATE TABLE attempt (
    run_id       text COLLATE "C" NOT NULL,
    attempt      text COLLATE "C" NOT NULL,
    ordinal      integer NOT NULL,
    first_offset bigint NOT NULL,
    PRIMARY KEY (run_id, attempt)
);

-- Points of (run, attempt, rank). Rank -1: the writer named none. Level 0: what one batch of the log held, as frames (head 0);
-- above: merged, a pack of the keys from first_key to last_key, whose first `head` bytes tell where each key's points lie.
CREATE TABLE segment (
    run_id       text COLLATE "C" NOT NULL,
    first_offset bigint NOT NULL,
    attempt      text COLLATE "C" NOT NULL,
    rank         integer NOT NULL,
    first_key    text COLLATE "C" NOT NULL,
    last_key     text COLLATE "C" NOT NULL,
    level        integer NOT NULL,
    last_offset  bigint NOT NULL,
    partition    integer NOT NULL,
    points       integer NOT NULL,
    head         integer NOT NULL,
    data         bytea STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (run_id, first_offset, attempt, rank, first_key)
) WITH (autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.05);
-- What a worker that takes a partition has to merge yet.
CREATE INDEX segment_fresh ON segment (partition) WHERE level = 0;

-- Latest, smallest and largest value per key. Latest is the largest (step, time, value) whatever the order of arrival.
CREATE TABLE metric (
    run_id     text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    value      double precision NOT NULL,
    step       bigint NOT NULL,
    time_ms    bigint NOT NULL,
    min_value  double precision,
    max_value  double precision,
    model_id        text,
    dataset_name    text,
    dataset_digest  text,
    PRIMARY KEY (run_id, key)
);

-- Which runs each batch touched; see changelog.py. Old rows go.
CREATE TABLE metric_change (
    partition     integer NOT NULL,
    first_offset  bigint NOT NULL,
    next_offset   bigint NOT NULL,
    run_ids       text[] NOT NULL,
    PRIMARY KEY (partition, next_offset)
);
