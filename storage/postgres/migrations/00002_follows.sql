-- +goose Up

CREATE TABLE follows (
    follower_id  uuid        NOT NULL CONSTRAINT follows_follower_id_fkey REFERENCES users (id),
    following_id uuid        NOT NULL CONSTRAINT follows_following_id_fkey REFERENCES users (id),
    followed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (follower_id, following_id),
    CONSTRAINT follows_not_self CHECK (follower_id <> following_id)
);
-- The fan-out walks followers by key; with followed_at in it the index alone
-- answers which of them belong to the audience.
CREATE INDEX follows_following_id ON follows (following_id, follower_id) INCLUDE (followed_at);
CREATE INDEX follows_followers_list ON follows (following_id, followed_at DESC, follower_id DESC);
CREATE INDEX follows_following_list ON follows (follower_id, followed_at DESC, following_id DESC);

-- Counts are kept, never counted: they change in the transaction that changes
-- follows. They are apart from users so that a popular creator's new followers
-- do not contend with the profile.
CREATE TABLE follow_counts (
    user_id   uuid   PRIMARY KEY REFERENCES users (id),
    followers bigint NOT NULL DEFAULT 0 CHECK (followers >= 0),
    following bigint NOT NULL DEFAULT 0 CHECK (following >= 0)
) WITH (fillfactor = 70);
