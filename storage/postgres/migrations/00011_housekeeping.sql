-- +goose Up

-- For the daily housekeeping, in the order in which it deletes. A payment's key is
-- kept as long as the payment.
DROP INDEX idempotency_keys_created_at;
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at) WHERE operation <> 'transaction';
CREATE INDEX refresh_tokens_expires_at ON refresh_tokens (expires_at);
CREATE INDEX stripe_events_delivered ON stripe_events (received_at) WHERE delivered_at IS NOT NULL;
