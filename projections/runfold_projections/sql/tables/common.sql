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

-- What each entity went through, a row per batch: entries of journal.py in `data`. left_over: events until its state is
-- kept again.
CREATE TABLE journal (
    entity        text COLLATE "C" NOT NULL,
    first_offset  bigint NOT NULL,
    last_offset   bigint NOT NULL,
    partition     integer NOT NULL,
    events        integer NOT NULL,
    left_over     integer NOT NULL,
    data          bytea STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (entity, first_offset)
);

-- States of entities by now and then: as folded from all their events below next_offset.
CREATE TABLE journal_state (
    entity       text COLLATE "C" NOT NULL,
    next_offset  bigint NOT NULL,
    data         bytea STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (entity, next_offset)
);

-- Events that name another one as their cause.
CREATE TABLE journal_cause (
    causation_id  text NOT NULL,
    entity        text COLLATE "C" NOT NULL,
    partition     integer NOT NULL,
    log_offset    bigint NOT NULL,
    PRIMARY KEY (causation_id, partition, log_offset, entity)
);
