-- Files of the artifact store. Owner: a run's id, or a folder, whose name has a slash in it.
CREATE TABLE artifact (
    owner       text COLLATE "C" NOT NULL,
    path        text COLLATE "C" NOT NULL,
    size        bigint NOT NULL,
    sha256      text NOT NULL,
    object_key  text NOT NULL,
    stored_ms   bigint NOT NULL,
    PRIMARY KEY (owner, path)
);
