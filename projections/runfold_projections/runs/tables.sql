CREATE TABLE run (
    run_id           text COLLATE "C" PRIMARY KEY,
    partition        integer NOT NULL,
    experiment_id    bigint NOT NULL,
    name             text NOT NULL,
    user_id          text NOT NULL,
    status           text NOT NULL,
    start_ms         bigint NOT NULL,
    end_ms           bigint,
    lifecycle_stage  text NOT NULL,
    deleted_ms       bigint,
    artifact_uri     text NOT NULL,
    created_by       uuid NOT NULL
);
CREATE INDEX run_experiment ON run (experiment_id, start_ms DESC, run_id);

CREATE TABLE run_param (
    run_id  text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    value   text NOT NULL,
    PRIMARY KEY (run_id, key)
);

CREATE TABLE run_tag (
    run_id  text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    value   text NOT NULL,
    PRIMARY KEY (run_id, key)
);

-- Searches for the children of a run: tags."mlflow.parentRunId" = '…'. Index entries have a size limit.
CREATE INDEX run_tag_value ON run_tag (key, left(value, 64));

-- One use of a dataset by a run; (name, digest) identifies the dataset within the run's experiment.
CREATE TABLE run_dataset (
    run_id       text COLLATE "C" NOT NULL,
    ordinal      integer NOT NULL,
    name         text NOT NULL,
    digest       text NOT NULL,
    source_type  text NOT NULL,
    source       text NOT NULL,
    schema       text,
    profile      text,
    tags         jsonb NOT NULL,
    PRIMARY KEY (run_id, ordinal)
);

CREATE TABLE run_model (
    run_id    text COLLATE "C" NOT NULL,
    ordinal   integer NOT NULL,
    model_id  text NOT NULL,
    PRIMARY KEY (run_id, ordinal)
);

-- Logged models that a run made.
CREATE TABLE run_output (
    run_id    text COLLATE "C" NOT NULL,
    ordinal   integer NOT NULL,
    model_id  text NOT NULL,
    step      bigint NOT NULL,
    PRIMARY KEY (run_id, ordinal)
);

-- Which runs each batch touched; see folding/change_log.py. Old rows go.
CREATE TABLE run_change (
    partition     integer NOT NULL,
    first_offset  bigint NOT NULL,
    next_offset   bigint NOT NULL,
    run_ids       text[] NOT NULL,
    PRIMARY KEY (partition, next_offset)
);
