-- +goose Up

-- Those that are under way are few; they are looked through each day.
CREATE INDEX uploads_open ON uploads (created_at, id) WHERE archive_id IS NULL;
