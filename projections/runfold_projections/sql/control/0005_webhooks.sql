-- What deliveries are signed with. Nowhere else: the log is for ever.
CREATE TABLE webhook_secret (
    webhook_id  text PRIMARY KEY,
    secret      text NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT now()
);

-- What is to be told to whom, and how that went. delivery_id is made of the webhook, the event and `part`, so nothing is queued twice.
-- place: position of the event, 'test' for a trial.
CREATE TABLE delivery (
    delivery_id  uuid PRIMARY KEY,
    webhook_id   text NOT NULL,
    event_id     text NOT NULL,
    place        text NOT NULL,
    log_offset   bigint NOT NULL,
    kind         text NOT NULL,
    body         text NOT NULL,
    state        text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'failed')),
    attempts     integer NOT NULL DEFAULT 0,
    most         integer NOT NULL,
    due_at       timestamptz NOT NULL DEFAULT now(),
    status       integer,
    answer       text,
    error        text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    ended_at     timestamptz
);
-- Webhooks that are to be told again of what is in `registry` from an offset on; whoever does it has the row until due_at.
CREATE TABLE redelivery (
    webhook_id    text PRIMARY KEY,
    next_offset   bigint NOT NULL,
    until_offset  bigint NOT NULL,
    due_at        timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX delivery_due ON delivery (due_at) WHERE state = 'waiting';
CREATE INDEX delivery_of ON delivery (webhook_id, log_offset);
