CREATE TABLE toy (
    toy_id     text COLLATE "C" PRIMARY KEY,
    name       text NOT NULL,
    color      text NOT NULL,
    made_ms    bigint NOT NULL,
    is_broken  boolean NOT NULL
);
