-- +goose Up

-- When it was said, for the chat beside a recording. What is no message has no time.
ALTER TABLE chat_events ADD COLUMN sent_at timestamptz;
UPDATE chat_events SET sent_at = (event ->> 'sent_at')::timestamptz WHERE type = 'message';
CREATE INDEX chat_events_replay ON chat_events (stream_id, sent_at, id) WHERE type = 'message' AND deleted_at IS NULL;
