-- +goose Up

-- Notifications by month, so that old ones go with their table. A unique key needs
-- the month's column in it: created_at comes from what is told of, not from the
-- clock, and an attempt that is repeated meets the row of the one before.
ALTER TABLE notifications RENAME TO notifications_unparted;

CREATE TABLE notifications (
    id         uuid        NOT NULL DEFAULT uuid_v7(),
    -- No foreign key: it would be checked for each of a million rows, and every row
    -- has an inbox, which has one.
    user_id    uuid        NOT NULL,
    seq        bigint      NOT NULL CHECK (seq > 0),
    key        text        NOT NULL CHECK (char_length(key) BETWEEN 1 AND 200),
    type       text        NOT NULL CHECK (type IN ('stream_live', 'tip_received', 'new_follower', 'archive_ready')),
    read       boolean     NOT NULL DEFAULT false,
    -- Beyond the streams that a recipient is rung for in an hour: it waits to be found.
    silent     boolean     NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    data       jsonb       NOT NULL
) PARTITION BY RANGE (created_at);

-- notifications_months makes the tables of the months from one time to another. It
-- attaches them, which does not wait for readers and writers, nor they for it.
-- +goose StatementBegin
CREATE FUNCTION notifications_months(since timestamptz, until timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    month timestamp := date_trunc('month', since AT TIME ZONE 'UTC');
    part  text;
    made  bigint := 0;
BEGIN
    WHILE month <= until AT TIME ZONE 'UTC' LOOP
        part := 'notifications_' || to_char(month, 'YYYY_MM');
        IF to_regclass(part) IS NULL THEN
            EXECUTE format('CREATE TABLE %I (LIKE notifications INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part);
            EXECUTE format('ALTER TABLE notifications ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                part, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
            made := made + 1;
        END IF;
        month := month + interval '1 month';
    END LOOP;
    RETURN made;
END
$$;
-- +goose StatementEnd

-- What began before midnight may be told of after it.
SELECT notifications_months(least((SELECT min(created_at) FROM notifications_unparted), now() - interval '1 month'), now() + interval '3 months');

INSERT INTO notifications (id, user_id, seq, key, type, read, created_at, data)
SELECT id, user_id, seq, key, type, read, created_at, data FROM notifications_unparted;
DROP TABLE notifications_unparted;

ALTER TABLE notifications
    ADD PRIMARY KEY (id, created_at),
    ADD CONSTRAINT notifications_key_key UNIQUE (user_id, key, created_at);
-- An inbox numbers its rows under a lock, so the index need not see to it.
CREATE INDEX notifications_seq ON notifications (user_id, seq);
CREATE INDEX notifications_unread ON notifications (user_id, seq) WHERE NOT read;

-- What is kept of each inbox, so that nobody counts: the unread ones, how often
-- its owner was rung for streams since the hour began, and the notice of new
-- followers that further ones are added to.
ALTER TABLE inboxes
    ADD COLUMN unread        bigint      NOT NULL DEFAULT 0,
    ADD COLUMN rung          integer     NOT NULL DEFAULT 0,
    ADD COLUMN rung_since    timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN followers_id  uuid,
    ADD COLUMN followers_at  timestamptz;
UPDATE inboxes i SET unread = n.unread
FROM (SELECT user_id, count(*) AS unread FROM notifications WHERE NOT read GROUP BY user_id) n WHERE n.user_id = i.user_id;
ALTER TABLE inboxes ADD CONSTRAINT inboxes_unread CHECK (unread >= 0);

ALTER TABLE notification_progress
    ADD COLUMN skipped bigint           NOT NULL DEFAULT 0 CHECK (skipped >= 0),
    ADD COLUMN rate    double precision NOT NULL DEFAULT 0 CHECK (rate >= 0),
    DROP CONSTRAINT notification_progress_status_check,
    ADD CONSTRAINT notification_progress_status_check
        CHECK (status IN ('pending', 'running', 'paused', 'incomplete', 'completed', 'canceled', 'stopped'));

-- Whom a member does not want to be told of, followed by or tipped by.
CREATE TABLE blocks (
    user_id    uuid        NOT NULL CONSTRAINT blocks_user_id_fkey REFERENCES users (id),
    blocked_id uuid        NOT NULL CONSTRAINT blocks_blocked_id_fkey REFERENCES users (id),
    blocked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, blocked_id),
    CONSTRAINT blocks_not_self CHECK (user_id <> blocked_id)
);
CREATE INDEX blocks_list ON blocks (user_id, blocked_at DESC, blocked_id DESC);
