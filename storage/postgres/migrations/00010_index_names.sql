-- +goose Up

-- The names by which the performance review asks for them (S3). Its index of
-- streams by status alone is the beginning of idx_streams_status_started.
ALTER INDEX streams_status_started_at RENAME TO idx_streams_status_started;
ALTER INDEX streams_user_id_started_at RENAME TO idx_streams_user_id;
ALTER INDEX follows_following_id RENAME TO idx_follows_following_id;
ALTER TABLE archives RENAME CONSTRAINT archives_stream_id_key TO idx_archives_stream_id;
