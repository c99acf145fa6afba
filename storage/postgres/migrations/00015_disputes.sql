-- +goose Up

-- Payers who went to their bank, as Stripe tells of them.
CREATE TABLE disputes (
    id             text        PRIMARY KEY,
    transaction_id uuid        NOT NULL CONSTRAINT disputes_transaction_id_fkey REFERENCES transactions (id),
    amount         bigint      NOT NULL CHECK (amount > 0),
    -- What of the amount the platform gives of its fee.
    fee_amount     bigint      NOT NULL DEFAULT 0 CHECK (fee_amount BETWEEN 0 AND amount),
    reason         text        NOT NULL,
    status         text        NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- When the money was taken from the creator, and when it came back or was gone. A
    -- bank's inquiry takes none.
    held_at        timestamptz,
    closed_at      timestamptz,
    CHECK (closed_at IS NULL OR held_at IS NOT NULL)
);
CREATE INDEX disputes_transaction_id ON disputes (transaction_id);

ALTER TABLE stripe_events
    ADD COLUMN object     text NOT NULL DEFAULT '',
    ADD COLUMN refund_id  text NOT NULL DEFAULT '',
    ADD COLUMN dispute_id text NOT NULL DEFAULT '';
