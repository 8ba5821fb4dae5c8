-- Models, and checkpoints of them, that trainings keep. Deleted ones stay. Their metrics are in the projection of
-- metrics.
CREATE TABLE logged_model (
    model_id         text COLLATE "C" PRIMARY KEY,
    workspace        text NOT NULL,
    experiment_id    bigint NOT NULL,
    name             text NOT NULL,
    artifact_uri     text NOT NULL,
    model_type       text,
    source_run_id    text,
    status           text NOT NULL,
    lifecycle_stage  text NOT NULL,
    created_ms       bigint NOT NULL,
    updated_ms       bigint NOT NULL,
    created_by       uuid NOT NULL
);
CREATE INDEX logged_model_experiment ON logged_model (experiment_id, created_ms DESC, model_id);
-- Lists of files ask for a model by its name. An index entry has a limit that four-byte characters could reach.
CREATE INDEX logged_model_name ON logged_model (left(name, 128));

CREATE TABLE logged_model_param (
    model_id  text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    value     text NOT NULL,
    PRIMARY KEY (model_id, key)
);

CREATE TABLE logged_model_tag (
    model_id  text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    value     text NOT NULL,
    PRIMARY KEY (model_id, key)
);
