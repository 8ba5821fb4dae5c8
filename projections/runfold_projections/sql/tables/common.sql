-- Tables of every projection's generation.
CREATE TABLE checkpoint (
    topic        text NOT NULL,
    partition    integer NOT NULL,
    log_id       text NOT NULL,
    genesis_id   uuid NOT NULL,
    next_offset  bigint NOT NULL,
    broker_ms    bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);

-- Received sequence numbers per (entity, writer): start, stop, start, stop…, half-open.
CREATE TABLE sequence (
    partition  integer NOT NULL,
    entity     text COLLATE "C" NOT NULL,
    writer     text COLLATE "C" NOT NULL,
    bounds     bigint[] NOT NULL,
    PRIMARY KEY (entity, writer)
);

CREATE TABLE rejection (
    event_id   uuid NOT NULL,
    topic      text NOT NULL,
    partition  integer NOT NULL,
    log_offset bigint NOT NULL,
    entity     text COLLATE "C" NOT NULL,
    code       text NOT NULL,
    message    text NOT NULL,
    details    jsonb NOT NULL,
    broker_ms  bigint NOT NULL,
    PRIMARY KEY (topic, partition, log_offset)
);
CREATE INDEX rejection_event ON rejection (event_id);

CREATE TABLE set_aside (
    topic      text NOT NULL,
    partition  integer NOT NULL,
    log_offset bigint NOT NULL,
    reason     text NOT NULL,
    message    text NOT NULL,
    record_key bytea,
    value_size integer,
    broker_ms  bigint NOT NULL,
    PRIMARY KEY (topic, partition, log_offset)
);
