-- Attempts of a run in the order of their first appearance in the log, and the branch that it opened. '' is the attempt
-- of writers that name none, which opens none: 0.
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

-- Rewinds, which open the branch of their number, and declared starts, which open none: points of greater steps are cut
-- off. Attempt is an ordinal, -1 before any attempt had a name. Rank NULL: all ranks. See folds/lineage.py.
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

-- Points of (run, attempt, rank, branch). Rank -1: the writer named none. Branch: of the attempt or the rewind that
-- opened it. Level 0: what one batch of the log held, as frames (head 0); above: merged, a pack of the keys from
-- first_key to last_key, whose first `head` bytes tell where each key's points lie.
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

-- Latest, smallest and largest value per key, of the effective points. Latest is the largest (step, time, value)
-- whatever the order of arrival. A row holds up to 512 keys of a run, in the order of their first appearance. `numbers`
-- has 8-byte columns, big-endian: latest values, least, most (NaN: none), steps, times; the last two have one element
-- each if all keys share it. See metrics/summaries.py. Contexts: [model_id, dataset_name, dataset_digest] by a key's
-- place, or of all keys under ''. Layout: the same for rows of 64 and more keys that are the same, so that a key is
-- looked for once and not in thousands of runs.
CREATE TABLE metric_block (
    run_id   text COLLATE "C" NOT NULL,
    block    integer NOT NULL,
    keys     text[] STORAGE EXTERNAL COLLATE "C" NOT NULL,
    numbers  bytea STORAGE EXTERNAL NOT NULL,
    contexts jsonb,
    layout   uuid,
    PRIMARY KEY (run_id, block)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0,
        toast.autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_cost_delay = 0);

CREATE INDEX metric_block_layout ON metric_block (layout, run_id, block) WHERE layout IS NOT NULL;

-- The place-th double of a column of 8-byte numbers.
CREATE FUNCTION double_at(numbers bytea, place integer) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    bits bigint := ('x' || encode(substr(numbers, 8 * place - 7, 8), 'hex'))::bit(64)::bigint;
    exponent integer := (bits >> 52) & 2047;
    mantissa double precision := bits & 4503599627370495;
    size double precision;
BEGIN
    IF exponent = 2047 THEN
        IF mantissa <> 0 THEN
            RETURN 'NaN';
        END IF;
        size := 'Infinity';
    ELSIF exponent = 0 THEN
        size := mantissa * power(2::double precision, -1074);
    ELSE
        size := (mantissa + 4503599627370496) * power(2::double precision, exponent - 1075);
    END IF;
    RETURN CASE WHEN bits < 0 THEN -size ELSE size END;
END $$;

CREATE FUNCTION whole_at(numbers bytea, place integer) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ('x' || encode(substr(numbers, 8 * place - 7, 8), 'hex'))::bit(64)::bigint
$$;

-- A row per key, for people and for searches in SQL.
CREATE VIEW metric AS
SELECT b.run_id, k.key, double_at(b.numbers, at.place) AS value,
       whole_at(b.numbers, 3 * size.keys + CASE WHEN size.shared THEN 1 ELSE at.place END) AS step,
       whole_at(b.numbers, 3 * size.keys + CASE WHEN size.shared THEN 2 ELSE size.keys + at.place END) AS time_ms,
       nullif(double_at(b.numbers, size.keys + at.place), 'NaN') AS min_value,
       nullif(double_at(b.numbers, 2 * size.keys + at.place), 'NaN') AS max_value,
       context.held ->> 0 AS model_id,
       context.held ->> 1 AS dataset_name,
       context.held ->> 2 AS dataset_digest
FROM metric_block b
CROSS JOIN LATERAL (
    SELECT cardinality(b.keys) AS keys, octet_length(b.numbers) < 40 * cardinality(b.keys) AS shared
) AS size
CROSS JOIN LATERAL unnest(b.keys) WITH ORDINALITY AS k (key, number)
CROSS JOIN LATERAL (SELECT k.number::integer AS place) AS at
CROSS JOIN LATERAL (SELECT coalesce(b.contexts -> (at.place - 1)::text, b.contexts -> '') AS held) AS context;

-- Of the points that name a logged model: latest value (largest time, step, value; NaN above numbers) and extremes
-- (NULL: all are NaN) per run, key and data set. `dataset` stands for its names, which are too long for an index. See
-- model_metrics/model_metrics.py.
CREATE TABLE model_value (
    model_id        text COLLATE "C" NOT NULL,
    run_id          text COLLATE "C" NOT NULL,
    key             text COLLATE "C" NOT NULL,
    dataset_name    text NOT NULL,
    dataset_digest  text NOT NULL,
    dataset         bytea NOT NULL,
    time_ms         bigint NOT NULL,
    step            bigint NOT NULL,
    value           double precision NOT NULL,
    least           double precision,
    most            double precision,
    PRIMARY KEY (model_id, key, run_id, dataset)
) WITH (fillfactor = 80);

-- The same out of wide rows: up to 512 sorted keys that were logged together, for which `layout` stands, with arrays in
-- their order. All NaN: least is NaN, and most -Infinity. See folds/model_blocks.py.
CREATE TABLE model_block (
    model_id        text COLLATE "C" NOT NULL,
    run_id          text COLLATE "C" NOT NULL,
    dataset_name    text NOT NULL,
    dataset_digest  text NOT NULL,
    dataset         bytea NOT NULL,
    layout          bytea NOT NULL,
    first_key       text COLLATE "C" NOT NULL,
    last_key        text COLLATE "C" NOT NULL,
    keys            text[] STORAGE EXTERNAL COLLATE "C" NOT NULL,
    time_ms         bigint NOT NULL,
    step            bigint NOT NULL,
    value           double precision[] STORAGE EXTERNAL NOT NULL,
    least           double precision[] STORAGE EXTERNAL NOT NULL,
    most            double precision[] STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (model_id, run_id, dataset, layout)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0,
        toast.autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_cost_delay = 0);

-- What both say of a key.
CREATE VIEW model_metric AS
SELECT model_id, run_id, key, dataset_name, dataset_digest, dataset,
       (array_agg(time_ms ORDER BY time_ms DESC, step DESC, value DESC))[1] AS time_ms,
       (array_agg(step ORDER BY time_ms DESC, step DESC, value DESC))[1] AS step,
       (array_agg(value ORDER BY time_ms DESC, step DESC, value DESC))[1] AS value,
       min(least) AS least, max(most) AS most
FROM (
    SELECT model_id, run_id, key, dataset_name, dataset_digest, dataset, time_ms, step, value, least, most
    FROM model_value
    UNION ALL
    SELECT b.model_id, b.run_id, u.key, b.dataset_name, b.dataset_digest, b.dataset, b.time_ms, b.step, u.value,
           nullif(u.least, 'NaN'), CASE WHEN u.least <> 'NaN' THEN u.most END
    FROM model_block b CROSS JOIN LATERAL unnest(b.keys, b.value, b.least, b.most) AS u (key, value, least, most)
) AS told
GROUP BY model_id, run_id, key, dataset_name, dataset_digest, dataset;

-- Records that had been received before (by writer and sequence) and so added nothing: whoever reads points from the
-- log itself, as live streams do, passes over them as the fold did.
CREATE TABLE metric_repeat (
    partition   integer NOT NULL,
    log_offset  bigint NOT NULL,
    PRIMARY KEY (partition, log_offset)
);

-- Which runs each batch touched; see folding/change_log.py. Old rows go.
CREATE TABLE metric_change (
    partition     integer NOT NULL,
    first_offset  bigint NOT NULL,
    next_offset   bigint NOT NULL,
    run_ids       text[] NOT NULL,
    PRIMARY KEY (partition, next_offset)
);
