-- +goose Up

-- A browser is told while the login is open that it subscribed with, and forgotten
-- with it. Of those that are there nobody knows the login: their pages subscribe again
-- at the next one.
DELETE FROM push_subscriptions;
ALTER TABLE push_subscriptions
    ADD COLUMN session_id uuid NOT NULL CONSTRAINT push_subscriptions_session_id_fkey REFERENCES sessions (id) ON DELETE CASCADE;
-- A login that is deleted looks for its own.
CREATE INDEX push_subscriptions_session ON push_subscriptions (session_id);
