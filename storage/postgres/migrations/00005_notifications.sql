-- +goose Up

-- The number of the last notification of each inbox. A writer holds its row until
-- the commit, so that a number is never seen before a lower one: who resumes
-- after a number has missed nothing below it.
CREATE TABLE inboxes (
    user_id  uuid   PRIMARY KEY CONSTRAINT inboxes_user_id_fkey REFERENCES users (id),
    last_seq bigint NOT NULL CHECK (last_seq > 0)
) WITH (fillfactor = 70);

CREATE TABLE notifications (
    id         uuid        PRIMARY KEY DEFAULT uuid_v7(),
    user_id    uuid        NOT NULL CONSTRAINT notifications_user_id_fkey REFERENCES users (id),
    seq        bigint      NOT NULL CHECK (seq > 0),
    key        text        NOT NULL CHECK (char_length(key) BETWEEN 1 AND 200),
    type       text        NOT NULL CHECK (type IN ('stream_live', 'tip_received', 'new_follower', 'archive_ready')),
    read       boolean     NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    data       jsonb       NOT NULL,
    CONSTRAINT notifications_key_key UNIQUE (user_id, key),
    CONSTRAINT notifications_seq_key UNIQUE (user_id, seq)
);
CREATE INDEX notifications_unread ON notifications (user_id, seq) WHERE NOT read;

-- A member without a row wants everything.
CREATE TABLE notification_settings (
    user_id       uuid    PRIMARY KEY CONSTRAINT notification_settings_user_id_fkey REFERENCES users (id),
    stream_live   boolean NOT NULL DEFAULT true,
    tip_received  boolean NOT NULL DEFAULT true,
    new_follower  boolean NOT NULL DEFAULT true,
    archive_ready boolean NOT NULL DEFAULT true
);

CREATE TABLE notification_progress (
    stream_id       uuid        PRIMARY KEY CONSTRAINT notification_progress_stream_id_fkey REFERENCES streams (id) ON DELETE CASCADE,
    status          text        NOT NULL CHECK (status IN ('pending', 'running', 'paused', 'completed', 'canceled')),
    followers_total bigint      NOT NULL CHECK (followers_total >= 0),
    notified        bigint      NOT NULL CHECK (notified >= 0),
    failed          bigint      NOT NULL CHECK (failed >= 0),
    started_at      timestamptz,
    finished_at     timestamptz
);
