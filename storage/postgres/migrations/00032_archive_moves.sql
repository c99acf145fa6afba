-- +goose Up

-- Until when copies of a move may be under way, from its first one to its end: a move
-- that has begun and not ended is gone on with, and no restore ends meanwhile.
ALTER TABLE archives ADD COLUMN moving_until timestamptz;
