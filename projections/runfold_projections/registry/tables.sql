-- born: offset in `registry` of the event that created the model. It stays the model's identity through all renames; a
-- model that gets a name anew after its deletion is another one.
CREATE TABLE registered_model (
    born          bigint PRIMARY KEY,
    workspace     text NOT NULL,
    name          text COLLATE "C" NOT NULL,
    description   text,
    created_ms    bigint NOT NULL,
    updated_ms    bigint NOT NULL,
    renamed_ms    bigint NOT NULL,
    last_version  integer NOT NULL,
    is_prompt     boolean NOT NULL
);
-- Not UNIQUE: the fold decides uniqueness, and one batch may swap two names.
CREATE INDEX registered_model_name ON registered_model (workspace, name);
CREATE INDEX registered_model_updated ON registered_model (workspace, updated_ms);

CREATE TABLE registered_model_tag (
    born   bigint NOT NULL,
    key    text COLLATE "C" NOT NULL,
    value  text NOT NULL,
    PRIMARY KEY (born, key)
);
CREATE INDEX registered_model_tag_value ON registered_model_tag (key, left(value, 64));

CREATE TABLE model_alias (
    born     bigint NOT NULL,
    alias    text COLLATE "C" NOT NULL,
    version  integer NOT NULL,
    PRIMARY KEY (born, alias)
);

-- A version that was deleted has no row; last_version of its model keeps its number from being given again. log_offset:
-- of the event that created it. The time of its last update is the later one of updated_ms and its model's renamed_ms.
CREATE TABLE model_version (
    born              bigint NOT NULL,
    version           integer NOT NULL,
    log_offset        bigint NOT NULL,
    source            text NOT NULL,
    storage_location  text,
    run_id            text COLLATE "C",
    run_link          text,
    model_id          text COLLATE "C",
    description       text,
    stage             text NOT NULL,
    created_ms        bigint NOT NULL,
    updated_ms        bigint NOT NULL,
    PRIMARY KEY (born, version)
);
CREATE INDEX model_version_stage ON model_version (born, stage, version);
CREATE INDEX model_version_log_offset ON model_version (log_offset);
-- By hash: values may be longer than an entry of a b-tree.
CREATE INDEX model_version_run ON model_version USING hash (run_id);
CREATE INDEX model_version_model ON model_version USING hash (model_id);
CREATE INDEX model_version_source ON model_version USING hash (source);

CREATE TABLE model_version_tag (
    born     bigint NOT NULL,
    version  integer NOT NULL,
    key      text COLLATE "C" NOT NULL,
    value    text NOT NULL,
    PRIMARY KEY (born, version, key)
);
CREATE INDEX model_version_tag_value ON model_version_tag (key, left(value, 64));

-- Which model got which name when: whom a name meant at a moment of the log is found by it.
CREATE TABLE model_naming (
    workspace   text NOT NULL,
    name        text NOT NULL,
    log_offset  bigint NOT NULL,
    born        bigint NOT NULL
);
CREATE INDEX model_naming_name ON model_naming USING hash (name);

-- Which registered models got versions of which logged model, and when: what was made of it at a moment of the log is
-- found by it.
CREATE TABLE model_made_of (
    model_id    text NOT NULL,
    log_offset  bigint NOT NULL,
    born        bigint NOT NULL
);
CREATE INDEX model_made_of_model ON model_made_of USING hash (model_id);
