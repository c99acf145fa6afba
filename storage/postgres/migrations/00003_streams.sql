-- +goose Up

CREATE TABLE streams (
    id                 uuid        PRIMARY KEY,
    user_id            uuid        NOT NULL CONSTRAINT streams_user_id_fkey REFERENCES users (id),
    title              text        NOT NULL CHECK (char_length(title) BETWEEN 1 AND 140),
    description        text        NOT NULL DEFAULT '' CHECK (char_length(description) <= 5000),
    category           text        NOT NULL DEFAULT '' CHECK (char_length(category) <= 50),
    tags               text[]      NOT NULL DEFAULT '{}' CHECK (cardinality(tags) <= 10 AND char_length(array_to_string(tags, '')) <= 300),
    status             text        NOT NULL CHECK (status IN ('starting', 'live', 'reconnecting', 'ending', 'ended')),
    ingest             text        NOT NULL CHECK (ingest IN ('external', 'rtmp')),
    record             boolean     NOT NULL DEFAULT true,
    -- The final figures: while a stream is live its viewers are in Redis alone.
    viewer_count       bigint      NOT NULL DEFAULT 0 CHECK (viewer_count >= 0),
    peak_viewer_count  bigint      NOT NULL DEFAULT 0 CHECK (peak_viewer_count >= 0),
    -- 'infinity' before the start, so that the column can be a keyset: a NULL
    -- has no place in a row comparison.
    started_at         timestamptz NOT NULL DEFAULT 'infinity',
    ended_at           timestamptz,
    reconnect_deadline timestamptz,
    -- This server's clock, the one that follows are dated by: the two are compared.
    created_at         timestamptz NOT NULL DEFAULT now(),
    CHECK (status NOT IN ('live', 'reconnecting') OR started_at < 'infinity'),
    CHECK ((status = 'ended') = (ended_at IS NOT NULL)),
    CHECK (reconnect_deadline IS NULL OR status = 'reconnecting')
);
-- One stream at a time occupies a creator, however many requests race.
CREATE UNIQUE INDEX streams_one_active_key ON streams (user_id) WHERE status IN ('starting', 'live', 'reconnecting');
-- A pair for each way to narrow a list: by start and by viewers. What a member
-- has is few, and narrowed further as it is read.
CREATE INDEX streams_started_at ON streams (started_at DESC, id DESC);
CREATE INDEX streams_viewer_count ON streams (viewer_count DESC, id DESC);
CREATE INDEX streams_status_started_at ON streams (status, started_at DESC, id DESC);
CREATE INDEX streams_status_viewer_count ON streams (status, viewer_count DESC, id DESC);
CREATE INDEX streams_category_started_at ON streams (category, started_at DESC, id DESC);
CREATE INDEX streams_category_viewer_count ON streams (category, viewer_count DESC, id DESC);
CREATE INDEX streams_category_status_started_at ON streams (category, status, started_at DESC, id DESC);
CREATE INDEX streams_category_status_viewer_count ON streams (category, status, viewer_count DESC, id DESC);
CREATE INDEX streams_user_id_started_at ON streams (user_id, started_at DESC, id DESC);
CREATE INDEX streams_user_id_viewer_count ON streams (user_id, viewer_count DESC, id DESC);

CREATE TABLE stream_events (
    stream_id uuid        NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
    seq       bigint      NOT NULL CHECK (seq > 0),
    key       text        NOT NULL CHECK (char_length(key) BETWEEN 1 AND 200),
    type      text        NOT NULL CHECK (char_length(type) BETWEEN 1 AND 50),
    at        timestamptz NOT NULL,
    data      jsonb       NOT NULL DEFAULT '{}',
    PRIMARY KEY (stream_id, seq),
    CONSTRAINT stream_events_key_key UNIQUE (stream_id, key)
);

CREATE TABLE uploads (
    id           uuid        PRIMARY KEY,
    stream_id    uuid        NOT NULL CONSTRAINT uploads_stream_id_fkey REFERENCES streams (id) ON DELETE CASCADE,
    key          text        NOT NULL CHECK (char_length(key) BETWEEN 1 AND 1024),
    storage_id   text        NOT NULL,
    content_type text        NOT NULL CHECK (char_length(content_type) BETWEEN 1 AND 255),
    size_bytes   bigint      NOT NULL CHECK (size_bytes > 0),
    part_size    bigint      NOT NULL CHECK (part_size > 0),
    -- No foreign key: it outlives the archive, so that a late retry does not
    -- bring a deleted one back.
    archive_id   uuid,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX uploads_stream_id ON uploads (stream_id, created_at, id);
