-- +goose Up

-- Rows that are made in SQL get the same kind of id as those made in Go. The
-- name leaves room for the built-in function of later versions.
-- +goose StatementBegin
CREATE FUNCTION uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(set_bit(set_bit(
        overlay(uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
            FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid
$$;
-- +goose StatementEnd

CREATE TABLE users (
    id            uuid        PRIMARY KEY,
    username      text        NOT NULL CHECK (char_length(username) BETWEEN 3 AND 30),
    email         text        NOT NULL CHECK (char_length(email) BETWEEN 3 AND 320),
    display_name  text        NOT NULL CHECK (char_length(display_name) <= 50),
    bio           text        NOT NULL DEFAULT '' CHECK (char_length(bio) <= 500),
    avatar_url    text        NOT NULL DEFAULT '' CHECK (char_length(avatar_url) <= 2048),
    password_hash text        NOT NULL CHECK (password_hash <> ''),
    role          text        NOT NULL DEFAULT 'member' CHECK (role IN ('member', 'admin')),
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_username_key ON users (lower(username));
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

-- A session is one login: the family of all refresh tokens that descend from
-- it. Its row is what a revocation changes, so that a token that is being
-- issued at the same moment cannot escape.
CREATE TABLE sessions (
    id         uuid        PRIMARY KEY,
    user_id    uuid        NOT NULL REFERENCES users (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE INDEX sessions_user_id ON sessions (user_id);

CREATE TABLE refresh_tokens (
    hash           bytea       PRIMARY KEY CHECK (octet_length(hash) BETWEEN 16 AND 64),
    session_id     uuid        NOT NULL REFERENCES sessions (id),
    expires_at     timestamptz NOT NULL,
    used_at        timestamptz,
    successor_hash bytea,
    created_at     timestamptz NOT NULL DEFAULT now(),
    CHECK ((used_at IS NULL) = (successor_hash IS NULL))
);
CREATE INDEX refresh_tokens_session_id ON refresh_tokens (session_id);
