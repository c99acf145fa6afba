-- +goose Up

ALTER TABLE archives ADD COLUMN visibility text NOT NULL DEFAULT 'public' CHECK (visibility IN ('public', 'private'));

-- The lists of everybody have public archives alone, however many private ones lie
-- between them.
DROP INDEX archives_status;
DROP INDEX archives_created_at;
CREATE INDEX archives_status ON archives (status, created_at DESC, id DESC) WHERE visibility = 'public';
CREATE INDEX archives_created_at ON archives (created_at DESC, id DESC) WHERE visibility = 'public';
