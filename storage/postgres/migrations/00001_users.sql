-- +goose Up
CREATE TABLE users (
    id            uuid PRIMARY KEY,
    username      text NOT NULL CHECK (username ~ '^[A-Za-z0-9_]{3,30}$'),
    email         text NOT NULL CHECK (length(email) <= 254),
    display_name  text NOT NULL CHECK (length(display_name) <= 50),
    bio           text NOT NULL DEFAULT '' CHECK (length(bio) <= 500),
    avatar_url    text NOT NULL DEFAULT '' CHECK (length(avatar_url) <= 2048),
    password_hash text NOT NULL,
    role          text NOT NULL DEFAULT 'member' CHECK (role IN ('member', 'admin')),
    created_at    timestamptz NOT NULL DEFAULT now()
);
-- Names and addresses are unique without regard to case.
CREATE UNIQUE INDEX users_username ON users (lower(username));
CREATE UNIQUE INDEX users_email ON users (lower(email));

-- Counts are kept apart from users, so that a popular creator's row is not
-- rewritten whole with each follower.
CREATE TABLE follow_counts (
    user_id   uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    followers bigint NOT NULL DEFAULT 0 CHECK (followers >= 0),
    following bigint NOT NULL DEFAULT 0 CHECK (following >= 0)
);

CREATE TABLE follows (
    follower_id  uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    following_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    followed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (follower_id, following_id),
    CONSTRAINT follows_not_self CHECK (follower_id <> following_id)
);
-- The fan-out walks a creator's followers by key.
CREATE INDEX follows_following_id ON follows (following_id, follower_id) INCLUDE (followed_at);
CREATE INDEX follows_followers_list ON follows (following_id, followed_at DESC, follower_id DESC);
CREATE INDEX follows_following_list ON follows (follower_id, followed_at DESC, following_id DESC);

-- Refresh tokens, as hashes. A family is all that descend from one login.
CREATE TABLE refresh_tokens (
    hash           bytea PRIMARY KEY,
    family_id      uuid NOT NULL,
    user_id        uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL,
    used_at        timestamptz,
    successor_hash bytea,
    revoked_at     timestamptz
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);

-- A request with an Idempotency-Key has its effect once.
CREATE TABLE idempotency_keys (
    user_id      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    operation    text NOT NULL,
    key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_hash bytea NOT NULL,
    resource_id  uuid NOT NULL,
    status       integer NOT NULL DEFAULT 0,
    response     bytea,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, operation, key)
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

-- +goose Down
DROP TABLE idempotency_keys, refresh_tokens, follows, follow_counts, users;
