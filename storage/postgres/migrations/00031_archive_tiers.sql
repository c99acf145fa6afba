-- +goose Up

-- storage_class is where an archive's media are, and tier where they are to be: a store
-- without classes leaves them where they are.
ALTER TABLE archives
    ADD COLUMN tier text NOT NULL DEFAULT 'STANDARD' CHECK (tier IN ('STANDARD', 'INTELLIGENT_TIERING', 'GLACIER')),
    ADD COLUMN restored_at timestamptz;
