-- Attempts of a run in the order of their first appearance in the log, and the branch that it opened. '' is the attempt of writers
-- that name none, which opens none: 0.
CREATE TABLE attempt (
    run_id       text COLLATE "C" NOT NULL,
    attempt      text COLLATE "C" NOT NULL,
    ordinal      integer NOT NULL,
    first_offset bigint NOT NULL,
    branch       integer NOT NULL,
    PRIMARY KEY (run_id, attempt)
);

-- What an attempt said of itself first.
CREATE TABLE attempt_start (
    run_id      text COLLATE "C" NOT NULL,
    attempt     text COLLATE "C" NOT NULL,
    world_size  integer,
    start_step  bigint,
    log_offset  bigint NOT NULL,
    started_ms  bigint NOT NULL,
    PRIMARY KEY (run_id, attempt)
);

-- Rewinds, which open the branch of their number, and declared starts, which open none: points of greater steps are cut off. Attempt is
-- an ordinal, -1 before any attempt had a name. Rank NULL: all ranks. See folds/lineage.py.
CREATE TABLE cut (
    run_id      text COLLATE "C" NOT NULL,
    number      integer NOT NULL,
    attempt     integer NOT NULL,
    rank        integer,
    step        bigint NOT NULL,
    opens       boolean NOT NULL,
    writer      text NOT NULL,
    sequence    bigint NOT NULL,
    log_offset  bigint NOT NULL,
    event_id    uuid NOT NULL,
    PRIMARY KEY (run_id, number)
);

-- What a run inherits: the effective points of another up to a step, as they stood on a branch.
CREATE TABLE fork (
    run_id         text COLLATE "C" PRIMARY KEY,
    parent_run_id  text COLLATE "C" NOT NULL,
    parent_branch  integer NOT NULL,
    step           bigint NOT NULL,
    log_offset     bigint NOT NULL,
    event_id       uuid NOT NULL
);
CREATE INDEX fork_parent ON fork (parent_run_id);

-- Points of (run, attempt, rank, branch). Rank -1: the writer named none. Branch: of the attempt or the rewind that opened it. Level 0: what one batch of the log held, as frames (head 0);
-- above: merged, a pack of the keys from first_key to last_key, whose first `head` bytes tell where each key's points lie.
CREATE TABLE segment (
    run_id       text COLLATE "C" NOT NULL,
    first_offset bigint NOT NULL,
    attempt      text COLLATE "C" NOT NULL,
    rank         integer NOT NULL,
    branch       integer NOT NULL,
    first_key    text COLLATE "C" NOT NULL,
    last_key     text COLLATE "C" NOT NULL,
    level        integer NOT NULL,
    last_offset  bigint NOT NULL,
    first_step   bigint NOT NULL,
    last_step    bigint NOT NULL,
    partition    integer NOT NULL,
    points       integer NOT NULL,
    head         integer NOT NULL,
    data         bytea STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (run_id, first_offset, attempt, rank, first_key)
) WITH (autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.05);
-- What a worker that takes a partition has to merge yet.
CREATE INDEX segment_fresh ON segment (partition) WHERE level = 0;

-- Latest, smallest and largest value per key, of the effective points. Latest is the largest (step, time, value) whatever the order of arrival.
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
