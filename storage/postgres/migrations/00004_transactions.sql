-- +goose Up
CREATE TABLE transactions (
    id                uuid PRIMARY KEY,
    status            text NOT NULL CHECK (status IN ('queued', 'requires_action', 'processing', 'succeeded', 'failed', 'canceled', 'refunded')),
    kind              text NOT NULL CHECK (kind IN ('tip')),
    amount            bigint NOT NULL CHECK (amount > 0),
    currency          text NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    sender_id         uuid NOT NULL REFERENCES users,
    recipient_id      uuid NOT NULL REFERENCES users,
    stream_id         uuid REFERENCES streams,
    message           text NOT NULL DEFAULT '' CHECK (length(message) <= 255),
    failure           jsonb,
    fee_amount        bigint NOT NULL DEFAULT 0,
    refunded_amount   bigint NOT NULL DEFAULT 0,
    payment_intent_id text,
    client_secret     text,
    workflow_id       text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    settled_at        timestamptz,
    CONSTRAINT transactions_not_self CHECK (sender_id <> recipient_id)
);
CREATE INDEX transactions_sender ON transactions (sender_id, created_at DESC, id DESC);
CREATE INDEX transactions_recipient ON transactions (recipient_id, created_at DESC, id DESC);
CREATE UNIQUE INDEX transactions_workflow ON transactions (workflow_id);

-- The ledger: double entry. Each posting's entries sum to zero in each currency,
-- and what is written stays.
CREATE TABLE ledger_accounts (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind     text NOT NULL CHECK (kind IN ('card', 'platform_fee', 'creator_pending', 'creator_available')),
    user_id  uuid REFERENCES users,
    currency text NOT NULL,
    CONSTRAINT ledger_accounts_owner UNIQUE NULLS NOT DISTINCT (kind, user_id, currency)
);
CREATE INDEX ledger_accounts_user ON ledger_accounts (user_id);

CREATE TABLE ledger_postings (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_id uuid NOT NULL REFERENCES transactions,
    kind           text NOT NULL CHECK (kind IN ('settle')),
    posted_at      timestamptz NOT NULL,
    CONSTRAINT ledger_postings_once UNIQUE (transaction_id, kind)
);

CREATE TABLE ledger_entries (
    posting_id bigint NOT NULL REFERENCES ledger_postings,
    account_id bigint NOT NULL REFERENCES ledger_accounts,
    amount     bigint NOT NULL,
    currency   text NOT NULL,
    PRIMARY KEY (posting_id, account_id)
);
CREATE INDEX ledger_entries_account ON ledger_entries (account_id) INCLUDE (amount);

-- +goose StatementBegin
CREATE FUNCTION ledger_balanced() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM ledger_entries WHERE posting_id = NEW.posting_id GROUP BY currency HAVING sum(amount) <> 0) THEN
        RAISE EXCEPTION 'posting % is not balanced', NEW.posting_id USING ERRCODE = 'check_violation';
    END IF;
    IF EXISTS (SELECT 1 FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
               WHERE e.posting_id = NEW.posting_id AND a.currency <> e.currency) THEN
        RAISE EXCEPTION 'posting % mixes currencies', NEW.posting_id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION ledger_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is immutable: post a correction' USING ERRCODE = 'restrict_violation';
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER ledger_entries_balanced AFTER INSERT ON ledger_entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_balanced();
CREATE TRIGGER ledger_entries_immutable BEFORE UPDATE OR DELETE ON ledger_entries
    FOR EACH ROW EXECUTE FUNCTION ledger_immutable();
CREATE TRIGGER ledger_postings_immutable BEFORE UPDATE OR DELETE ON ledger_postings
    FOR EACH ROW EXECUTE FUNCTION ledger_immutable();

-- Webhooks, each stored before it is acknowledged.
CREATE TABLE stripe_events (
    id           text PRIMARY KEY,
    type         text NOT NULL,
    workflow_id  text NOT NULL,
    payload      jsonb NOT NULL,
    created_at   timestamptz NOT NULL,
    received_at  timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz
);

-- +goose Down
DROP TABLE stripe_events, ledger_entries, ledger_postings, ledger_accounts, transactions;
DROP FUNCTION ledger_balanced, ledger_immutable;
