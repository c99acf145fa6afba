-- +goose Up

-- Browsers that are to be told of their owner's notifications. An endpoint is one
-- browser: when another member subscribes there, it is theirs.
CREATE TABLE push_subscriptions (
    id            uuid        PRIMARY KEY DEFAULT uuid_v7(),
    user_id       uuid        NOT NULL CONSTRAINT push_subscriptions_user_id_fkey REFERENCES users (id),
    endpoint      text        NOT NULL CONSTRAINT push_subscriptions_endpoint_key UNIQUE CHECK (octet_length(endpoint) BETWEEN 1 AND 1024),
    key           bytea       NOT NULL CHECK (octet_length(key) = 65),
    secret        bytea       NOT NULL CHECK (octet_length(secret) = 16),
    server_key    text        NOT NULL CHECK (octet_length(server_key) BETWEEN 1 AND 100),
    subscribed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- By recipient: those of a range of followers are read in this order.
CREATE UNIQUE INDEX push_subscriptions_user ON push_subscriptions (user_id, id);
