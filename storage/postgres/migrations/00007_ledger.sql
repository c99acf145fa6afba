-- +goose Up

-- Double entry: money never appears or goes, it moves between accounts. 'card'
-- is the world outside, one account a payer; its balance is what they paid,
-- below zero.
CREATE TABLE ledger_accounts (
    id         uuid        PRIMARY KEY DEFAULT uuid_v7(),
    kind       text        NOT NULL CHECK (kind IN ('card', 'platform_fee', 'creator_pending', 'creator_available')),
    user_id    uuid        REFERENCES users (id),
    -- The user, or the nil id for the platform's own: an index finds no NULL by
    -- equality.
    owner      uuid        NOT NULL GENERATED ALWAYS AS (coalesce(user_id, '00000000-0000-0000-0000-000000000000')) STORED,
    currency   text        NOT NULL CHECK (currency ~ '^[a-z]{3}$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ledger_accounts_owner_key UNIQUE (owner, kind, currency),
    CONSTRAINT ledger_accounts_currency_key UNIQUE (id, currency),
    CHECK ((kind = 'platform_fee') = (user_id IS NULL))
);

-- A payment is posted once for each kind, however often it is asked for.
CREATE TABLE ledger_transactions (
    id             uuid        PRIMARY KEY DEFAULT uuid_v7(),
    transaction_id uuid        NOT NULL REFERENCES transactions (id),
    kind           text        NOT NULL CHECK (kind IN ('settlement')),
    posted_at      timestamptz NOT NULL,
    CONSTRAINT ledger_transactions_kind_key UNIQUE (transaction_id, kind)
);

CREATE TABLE ledger_entries (
    id                    bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    ledger_transaction_id uuid   NOT NULL REFERENCES ledger_transactions (id),
    account_id            uuid   NOT NULL,
    amount                bigint NOT NULL CHECK (amount <> 0),
    currency              text   NOT NULL,
    -- An entry cannot be in another currency than its account.
    FOREIGN KEY (account_id, currency) REFERENCES ledger_accounts (id, currency)
);
CREATE INDEX ledger_entries_transaction ON ledger_entries (ledger_transaction_id);
-- A balance is the sum over this index alone.
CREATE INDEX ledger_entries_account ON ledger_entries (account_id) INCLUDE (amount);

-- +goose StatementBegin
CREATE FUNCTION ledger_assert_balanced() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    posting uuid;
    off     record;
BEGIN
    IF TG_TABLE_NAME = 'ledger_entries' THEN
        posting := NEW.ledger_transaction_id;
    ELSE
        posting := NEW.id;
        IF NOT EXISTS (SELECT FROM ledger_entries WHERE ledger_transaction_id = posting) THEN
            RAISE EXCEPTION 'ledger transaction % has no entries', posting
                USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_balanced', TABLE = TG_TABLE_NAME;
        END IF;
    END IF;
    SELECT currency, sum(amount) AS total INTO off
    FROM ledger_entries
    WHERE ledger_transaction_id = posting
    GROUP BY currency
    HAVING sum(amount) <> 0
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'ledger transaction % is off by % %', posting, off.total, off.currency
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_balanced', TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- Deferred: the entries of one posting are balanced together, not one by one.
CREATE CONSTRAINT TRIGGER ledger_balanced AFTER INSERT ON ledger_entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_assert_balanced();
CREATE CONSTRAINT TRIGGER ledger_balanced AFTER INSERT ON ledger_transactions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_assert_balanced();

-- +goose StatementBegin
CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: a mistake is corrected by another posting', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', CONSTRAINT = 'ledger_immutable', TABLE = TG_TABLE_NAME;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER ledger_accounts_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_accounts
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_entries_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_transactions_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
