CREATE TABLE experiment (
    experiment_id      bigint PRIMARY KEY,
    workspace          text NOT NULL,
    name               text NOT NULL,
    artifact_location  text NOT NULL,
    lifecycle_stage    text NOT NULL,
    created_ms         bigint NOT NULL,
    updated_ms         bigint NOT NULL,
    created_by         uuid NOT NULL
);
-- Not UNIQUE: the fold decides uniqueness, and one batch may swap two names.
CREATE INDEX experiment_name ON experiment (workspace, name);
CREATE UNIQUE INDEX experiment_created_by ON experiment (created_by);
CREATE INDEX experiment_updated ON experiment (updated_ms DESC, experiment_id);

CREATE TABLE experiment_tag (
    experiment_id  bigint NOT NULL,
    key            text COLLATE "C" NOT NULL,
    value          text NOT NULL,
    PRIMARY KEY (experiment_id, key)
);
