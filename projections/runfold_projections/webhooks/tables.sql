-- born: offset in `registry` of the event that created it: it is told of what comes later. One that was deleted keeps
-- its id.
CREATE TABLE webhook (
    webhook_id   text COLLATE "C" PRIMARY KEY,
    workspace    text NOT NULL,
    name         text NOT NULL,
    url          text NOT NULL,
    kinds        text[] NOT NULL,
    description  text,
    active       boolean NOT NULL,
    born         bigint NOT NULL,
    created_ms   bigint NOT NULL,
    updated_ms   bigint NOT NULL,
    is_deleted   boolean NOT NULL
);
