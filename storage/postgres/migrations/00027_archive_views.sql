-- +goose Up

-- How many watched an archive on each of the last days. What is older is in
-- archives.view_count alone.
CREATE TABLE archive_views (
    archive_id uuid   NOT NULL REFERENCES archives (id) ON DELETE CASCADE,
    day        date   NOT NULL,
    views      bigint NOT NULL CHECK (views > 0),
    PRIMARY KEY (archive_id, day)
);
CREATE INDEX archive_views_day ON archive_views (day);
