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
-- By hash: a b-tree refuses rows above 2,704 bytes, which the longest names reach, and the partition would stand still.
CREATE INDEX experiment_name ON experiment USING hash (name);
-- Not UNIQUE either: nobody keeps two writers from using one event id.
CREATE INDEX experiment_created_by ON experiment (created_by, experiment_id);
CREATE INDEX experiment_updated ON experiment (updated_ms DESC, experiment_id);

CREATE TABLE experiment_tag (
    experiment_id  bigint NOT NULL,
    key            text COLLATE "C" NOT NULL,
    value          text NOT NULL,
    PRIMARY KEY (experiment_id, key)
);

-- Who got which name when: whom a name meant at a moment of the log is found by it.
CREATE TABLE experiment_naming (
    workspace      text NOT NULL,
    name           text NOT NULL,
    log_offset     bigint NOT NULL,
    experiment_id  bigint NOT NULL
);
CREATE INDEX experiment_naming_name ON experiment_naming USING hash (name);
