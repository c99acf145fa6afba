-- +goose Up

-- What goes back, whoever asked for it: the creator, an operator, or somebody at
-- Stripe's dashboard.
CREATE TABLE refunds (
    id               uuid        PRIMARY KEY,
    transaction_id   uuid        NOT NULL CONSTRAINT refunds_transaction_id_fkey REFERENCES transactions (id),
    amount           bigint      NOT NULL CHECK (amount > 0),
    -- What of the amount the platform gives back of its fee; known once it is booked.
    fee_amount       bigint      NOT NULL DEFAULT 0 CHECK (fee_amount BETWEEN 0 AND amount),
    reason           text        NOT NULL DEFAULT '' CHECK (char_length(reason) <= 255),
    status           text        NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'pending', 'succeeded', 'failed')),
    requested_by     uuid        REFERENCES users (id),
    stripe_refund_id text        CONSTRAINT refunds_stripe_refund_id_key UNIQUE,
    failure          jsonb,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at       timestamptz,
    CHECK (status <> 'succeeded' OR settled_at IS NOT NULL),
    CHECK ((status = 'failed') = (failure IS NOT NULL))
);
CREATE INDEX refunds_transaction_id ON refunds (transaction_id);

ALTER TABLE transactions
    -- What the platform has given back of its fee.
    ADD COLUMN fee_refunded bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT transactions_fee_refunded CHECK (fee_refunded BETWEEN 0 AND fee_amount),
    ADD CONSTRAINT transactions_refunded CHECK ((status = 'refunded') = (refunded_amount = amount)),
    -- When the creator's part becomes theirs to use, and when it did.
    ADD COLUMN available_at timestamptz,
    ADD COLUMN released_at timestamptz;
UPDATE transactions SET available_at = settled_at + interval '7 days' WHERE settled_at IS NOT NULL;
ALTER TABLE transactions ADD CONSTRAINT transactions_available CHECK ((available_at IS NULL) = (settled_at IS NULL));

-- 'refunds' is what went back to payers, and 'disputes' what their banks hold.
ALTER TABLE ledger_accounts
    DROP CONSTRAINT ledger_accounts_kind_check,
    ADD CONSTRAINT ledger_accounts_kind_check CHECK (kind IN ('card', 'platform_fee', 'creator_pending', 'creator_available', 'refunds', 'disputes')),
    DROP CONSTRAINT ledger_accounts_check,
    ADD CONSTRAINT ledger_accounts_check CHECK ((kind IN ('platform_fee', 'refunds', 'disputes')) = (user_id IS NULL));

-- A payment is posted once for each kind and, where there are several of a kind,
-- for each refund or dispute.
ALTER TABLE ledger_transactions
    ADD COLUMN reference text NOT NULL DEFAULT '',
    DROP CONSTRAINT ledger_transactions_kind_check,
    ADD CONSTRAINT ledger_transactions_kind_check CHECK (kind IN
        ('settlement', 'release', 'refund', 'refund_reversal', 'dispute', 'dispute_won', 'dispute_lost')),
    DROP CONSTRAINT ledger_transactions_kind_key,
    ADD CONSTRAINT ledger_transactions_kind_key UNIQUE (transaction_id, kind, reference);

-- What creators have, so that nobody adds up the whole of a history to tell them.
-- The platform's own accounts are left out: each payment would wait for the others
-- at their rows.
CREATE TABLE ledger_balances (
    account_id uuid   PRIMARY KEY REFERENCES ledger_accounts (id),
    amount     bigint NOT NULL
) WITH (fillfactor = 70);

INSERT INTO ledger_balances (account_id, amount)
SELECT a.id, sum(e.amount) FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id
WHERE a.kind IN ('creator_pending', 'creator_available') GROUP BY a.id;

-- +goose StatementBegin
CREATE FUNCTION ledger_keep_balances() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- In the order of the accounts, so that postings do not wait in a circle.
    INSERT INTO ledger_balances AS b (account_id, amount)
    SELECT e.account_id, sum(e.amount) FROM added e JOIN ledger_accounts a ON a.id = e.account_id
    WHERE a.kind IN ('creator_pending', 'creator_available')
    GROUP BY e.account_id ORDER BY e.account_id
    ON CONFLICT (account_id) DO UPDATE SET amount = b.amount + excluded.amount;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER ledger_balances AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_keep_balances();
