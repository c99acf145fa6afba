-- +goose Up

-- What reconciliation looks up in the books, in its order.
CREATE INDEX refunds_queued ON refunds (created_at, id) WHERE status = 'queued';
CREATE INDEX disputes_open ON disputes (created_at, transaction_id) WHERE closed_at IS NULL;
