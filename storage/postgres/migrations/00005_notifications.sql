-- +goose Up

CREATE TABLE notifications (
    id         uuid        PRIMARY KEY DEFAULT uuid_v7(),
    user_id    uuid        NOT NULL CONSTRAINT notifications_user_id_fkey REFERENCES users (id),
    seq        bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
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
