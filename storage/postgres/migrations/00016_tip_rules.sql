-- +goose Up

-- Who is banned in any chat of a creator does not tip them.
CREATE INDEX chat_bans_user_id ON chat_bans (user_id);
