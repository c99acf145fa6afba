-- +goose Up
CREATE TABLE streams (
    id                 uuid PRIMARY KEY,
    user_id            uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title              text NOT NULL CHECK (length(title) BETWEEN 1 AND 140),
    description        text NOT NULL DEFAULT '' CHECK (length(description) <= 5000),
    category           text NOT NULL DEFAULT '' CHECK (length(category) <= 50),
    tags               text[] NOT NULL DEFAULT '{}' CHECK (cardinality(tags) <= 10),
    status             text NOT NULL CHECK (status IN ('starting', 'live', 'reconnecting', 'ending', 'ended')),
    ingest             text NOT NULL CHECK (ingest IN ('external', 'rtmp')),
    record             boolean NOT NULL,
    viewer_count       bigint NOT NULL DEFAULT 0,
    peak_viewer_count  bigint NOT NULL DEFAULT 0,
    last_seq           bigint NOT NULL DEFAULT 0,
    started_at         timestamptz,
    ended_at           timestamptz,
    reconnect_deadline timestamptz,
    archive_id         uuid,
    created_at         timestamptz NOT NULL DEFAULT now()
);
-- One live stream a creator: the database refuses the second.
CREATE UNIQUE INDEX streams_one_active ON streams (user_id) WHERE status IN ('starting', 'live', 'reconnecting');
CREATE INDEX streams_status ON streams (status, started_at DESC, id DESC);
CREATE INDEX streams_started_at ON streams (started_at DESC, id DESC);
CREATE INDEX streams_user_id ON streams (user_id, started_at DESC, id DESC);
CREATE INDEX streams_category ON streams (category, started_at DESC, id DESC);
CREATE INDEX streams_status_viewers ON streams (status, viewer_count DESC, id DESC);
CREATE INDEX streams_viewers ON streams (viewer_count DESC, id DESC);

-- A stream's timeline. seq has no gaps: it is taken under the stream's row lock.
CREATE TABLE stream_events (
    stream_id uuid NOT NULL REFERENCES streams ON DELETE CASCADE,
    seq       bigint NOT NULL,
    key       text NOT NULL,
    type      text NOT NULL,
    at        timestamptz NOT NULL,
    data      jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (stream_id, seq),
    CONSTRAINT stream_events_key UNIQUE (stream_id, key)
);

CREATE TABLE archives (
    id               uuid PRIMARY KEY,
    stream_id        uuid NOT NULL REFERENCES streams ON DELETE CASCADE,
    user_id          uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title            text NOT NULL,
    status           text NOT NULL CHECK (status IN ('processing', 'ready', 'failed')),
    progress         double precision NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    duration_seconds double precision NOT NULL DEFAULT 0,
    size_bytes       bigint NOT NULL DEFAULT 0,
    renditions       jsonb NOT NULL DEFAULT '[]',
    storage_class    text NOT NULL DEFAULT 'STANDARD',
    view_count       bigint NOT NULL DEFAULT 0,
    failure          jsonb,
    created_at       timestamptz NOT NULL DEFAULT now(),
    ready_at         timestamptz
);
CREATE UNIQUE INDEX archives_stream_id ON archives (stream_id);
CREATE INDEX archives_created_at ON archives (created_at DESC, id DESC);
CREATE INDEX archives_user_id ON archives (user_id, created_at DESC, id DESC);
CREATE INDEX archives_status ON archives (status, created_at DESC, id DESC);

CREATE TABLE uploads (
    id           uuid PRIMARY KEY,
    stream_id    uuid NOT NULL REFERENCES streams ON DELETE CASCADE,
    object_key   text NOT NULL,
    storage_id   text NOT NULL,
    content_type text NOT NULL,
    size_bytes   bigint NOT NULL CHECK (size_bytes > 0),
    part_size    bigint NOT NULL,
    archive_id   uuid,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX uploads_stream_id ON uploads (stream_id);

-- +goose Down
DROP TABLE uploads, archives, stream_events, streams;
