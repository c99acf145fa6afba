-- +goose Up
-- uuid_v7 makes ids in statements that write many rows.
-- +goose StatementBegin
CREATE FUNCTION uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                FROM 1 FOR 6),
            52, 1), 53, 1), 'hex')::uuid
$$;
-- +goose StatementEnd

CREATE TABLE notifications (
    id         uuid PRIMARY KEY,
    seq        bigint GENERATED ALWAYS AS IDENTITY,
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    key        text NOT NULL,
    type       text NOT NULL CHECK (type IN ('stream_live', 'tip_received', 'new_follower', 'archive_ready')),
    read       boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    data       jsonb NOT NULL,
    CONSTRAINT notifications_key UNIQUE (user_id, key)
);
CREATE INDEX notifications_list ON notifications (user_id, seq DESC);
CREATE INDEX notifications_unread ON notifications (user_id, seq DESC) WHERE NOT read;

-- A member without a row wants all of them.
CREATE TABLE notification_settings (
    user_id       uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    stream_live   boolean NOT NULL,
    tip_received  boolean NOT NULL,
    new_follower  boolean NOT NULL,
    archive_ready boolean NOT NULL
);

CREATE TABLE notification_progress (
    stream_id       uuid PRIMARY KEY REFERENCES streams ON DELETE CASCADE,
    status          text NOT NULL,
    followers_total bigint NOT NULL,
    notified        bigint NOT NULL,
    failed          bigint NOT NULL,
    started_at      timestamptz,
    finished_at     timestamptz
);

-- +goose Down
DROP TABLE notification_progress, notification_settings, notifications;
DROP FUNCTION uuid_v7;
