-- +goose Up

CREATE TABLE transactions (
    id                uuid        PRIMARY KEY,
    status            text        NOT NULL DEFAULT 'queued' CHECK (status IN
        ('queued', 'requires_action', 'processing', 'succeeded', 'failed', 'canceled', 'refunded')),
    kind              text        NOT NULL CHECK (kind IN ('tip')),
    amount            bigint      NOT NULL CHECK (amount BETWEEN 1 AND 99999999),
    currency          text        NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    sender_id         uuid        NOT NULL CONSTRAINT transactions_sender_id_fkey REFERENCES users (id),
    recipient_id      uuid        NOT NULL CONSTRAINT transactions_recipient_id_fkey REFERENCES users (id),
    stream_id         uuid        CONSTRAINT transactions_stream_id_fkey REFERENCES streams (id),
    message           text        NOT NULL DEFAULT '' CHECK (char_length(message) <= 255),
    failure           jsonb,
    fee_amount        bigint      NOT NULL DEFAULT 0 CHECK (fee_amount BETWEEN 0 AND amount),
    refunded_amount   bigint      NOT NULL DEFAULT 0 CHECK (refunded_amount BETWEEN 0 AND amount),
    payment_intent_id text        CONSTRAINT transactions_payment_intent_id_key UNIQUE,
    client_secret     text        NOT NULL DEFAULT '',
    workflow_id       text        NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at        timestamptz,
    failed_at         timestamptz,
    CONSTRAINT transactions_not_self CHECK (sender_id <> recipient_id),
    CHECK ((status IN ('succeeded', 'refunded')) = (settled_at IS NOT NULL)),
    CHECK ((status IN ('failed', 'canceled')) = (failed_at IS NOT NULL)),
    CHECK ((failed_at IS NULL) = (failure IS NULL))
);
CREATE INDEX transactions_sender_id ON transactions (sender_id, created_at DESC, id DESC);
CREATE INDEX transactions_recipient_id ON transactions (recipient_id, created_at DESC, id DESC);
CREATE INDEX transactions_sender_status ON transactions (sender_id, status, created_at DESC, id DESC);
CREATE INDEX transactions_recipient_status ON transactions (recipient_id, status, created_at DESC, id DESC);
CREATE INDEX transactions_stream_id ON transactions (stream_id) WHERE stream_id IS NOT NULL;

CREATE TABLE stripe_events (
    id                text        PRIMARY KEY CHECK (char_length(id) BETWEEN 1 AND 255),
    type              text        NOT NULL,
    created_at        timestamptz NOT NULL,
    payment_intent_id text        NOT NULL DEFAULT '',
    workflow_id       text        NOT NULL DEFAULT '',
    -- As signed, byte for byte.
    payload           bytea       NOT NULL,
    received_at       timestamptz NOT NULL DEFAULT now(),
    delivered_at      timestamptz
);
CREATE INDEX stripe_events_undelivered ON stripe_events (received_at, id) WHERE delivered_at IS NULL;
