-- +goose Up

-- What was said, long after Redis has let go of it. A row is written once and
-- found by its stream alone. No foreign key: it would be checked for each row, and
-- nothing is said in a stream that is not there.
CREATE TABLE chat_events (
    stream_id  uuid   NOT NULL,
    id         bigint NOT NULL CHECK (id > 0),
    type       text   NOT NULL CHECK (char_length(type) BETWEEN 1 AND 50),
    event      json   NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (stream_id, id)
);
CREATE INDEX chat_events_messages ON chat_events (stream_id, id DESC) WHERE type = 'message' AND deleted_at IS NULL;

-- A stream without a row has no modes.
CREATE TABLE chat_settings (
    stream_id                uuid    PRIMARY KEY CONSTRAINT chat_settings_stream_id_fkey REFERENCES streams (id) ON DELETE CASCADE,
    slow_mode_seconds        integer NOT NULL DEFAULT 0 CHECK (slow_mode_seconds BETWEEN 0 AND 120),
    followers_only           boolean NOT NULL DEFAULT false,
    follower_min_age_seconds integer NOT NULL DEFAULT 0 CHECK (follower_min_age_seconds >= 0),
    blocked_terms            text[]  NOT NULL DEFAULT '{}' CHECK (cardinality(blocked_terms) <= 200)
);

-- banned_until is NULL for ever.
CREATE TABLE chat_bans (
    stream_id    uuid        NOT NULL CONSTRAINT chat_bans_stream_id_fkey REFERENCES streams (id) ON DELETE CASCADE,
    user_id      uuid        NOT NULL CONSTRAINT chat_bans_user_id_fkey REFERENCES users (id),
    banned_by    uuid        NOT NULL CONSTRAINT chat_bans_banned_by_fkey REFERENCES users (id),
    banned_until timestamptz,
    reason       text        NOT NULL DEFAULT '' CHECK (char_length(reason) <= 500),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream_id, user_id)
);

-- A creator's moderators are those of all of their streams.
CREATE TABLE chat_moderators (
    user_id      uuid        NOT NULL CONSTRAINT chat_moderators_user_id_fkey REFERENCES users (id),
    moderator_id uuid        NOT NULL CONSTRAINT chat_moderators_moderator_id_fkey REFERENCES users (id),
    added_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, moderator_id),
    CONSTRAINT chat_moderators_not_self CHECK (user_id <> moderator_id)
);
CREATE INDEX chat_moderators_added_at ON chat_moderators (user_id, added_at DESC, moderator_id DESC);
