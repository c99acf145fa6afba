-- +goose Up

CREATE TABLE archives (
    id               uuid             PRIMARY KEY,
    stream_id        uuid             NOT NULL REFERENCES streams (id),
    user_id          uuid             NOT NULL REFERENCES users (id),
    title            text             NOT NULL CHECK (char_length(title) BETWEEN 1 AND 140),
    status           text             NOT NULL DEFAULT 'processing' CHECK (status IN ('processing', 'ready', 'failed')),
    progress         double precision NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    duration_seconds double precision NOT NULL DEFAULT 0 CHECK (duration_seconds >= 0),
    size_bytes       bigint           NOT NULL DEFAULT 0 CHECK (size_bytes >= 0),
    renditions       jsonb            NOT NULL DEFAULT '[]',
    storage_class    text             NOT NULL DEFAULT 'STANDARD' CHECK (char_length(storage_class) BETWEEN 1 AND 50),
    view_count       bigint           NOT NULL DEFAULT 0 CHECK (view_count >= 0),
    failure          jsonb,
    created_at       timestamptz      NOT NULL DEFAULT now(),
    ready_at         timestamptz,
    CONSTRAINT archives_stream_id_key UNIQUE (stream_id),
    CHECK ((status = 'ready') = (ready_at IS NOT NULL)),
    CHECK ((status = 'failed') = (failure IS NOT NULL))
);
CREATE INDEX archives_user_id ON archives (user_id, created_at DESC, id DESC);
CREATE INDEX archives_status ON archives (status, created_at DESC, id DESC);
CREATE INDEX archives_created_at ON archives (created_at DESC, id DESC);

ALTER TABLE streams ADD COLUMN archive_id uuid REFERENCES archives (id) ON DELETE SET NULL;
CREATE UNIQUE INDEX streams_archive_id_key ON streams (archive_id) WHERE archive_id IS NOT NULL;
