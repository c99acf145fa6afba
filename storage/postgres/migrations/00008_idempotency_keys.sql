-- +goose Up

CREATE TABLE idempotency_keys (
    user_id      uuid        NOT NULL CONSTRAINT idempotency_keys_user_id_fkey REFERENCES users (id),
    operation    text        NOT NULL CHECK (char_length(operation) BETWEEN 1 AND 100),
    key          text        NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
    request_hash bytea       NOT NULL,
    resource_id  uuid        NOT NULL,
    -- 0 while the response is not known.
    status       integer     NOT NULL DEFAULT 0 CHECK (status = 0 OR status BETWEEN 100 AND 599),
    response     bytea,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, operation, key)
);
-- For whoever removes what is older than the promised 24 hours.
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
