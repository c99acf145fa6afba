-- +goose Up

-- What the books and Stripe did not agree on, each thing once; see operations.md.
CREATE TABLE payment_differences (
    kind           text        NOT NULL,
    object_id      text        NOT NULL,
    transaction_id uuid        REFERENCES transactions (id),
    detail         text        NOT NULL,
    found_at       timestamptz NOT NULL DEFAULT now(),
    seen_at        timestamptz NOT NULL DEFAULT now(),
    healed_at      timestamptz,
    PRIMARY KEY (kind, object_id)
);

ALTER TABLE transactions ADD COLUMN compared_at timestamptz;
CREATE INDEX transactions_settled_at ON transactions (settled_at) WHERE settled_at IS NOT NULL;
CREATE INDEX transactions_held ON transactions (available_at) WHERE available_at IS NOT NULL AND released_at IS NULL;
CREATE INDEX ledger_transactions_posted_at ON ledger_transactions (posted_at);
