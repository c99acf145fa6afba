package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Users keeps members.
type Users struct{ db *DB }

// NewUsers keeps members in db.
func NewUsers(db *DB) *Users { return &Users{db: db} }

// userColumns belong to userFrom; the address is not among them, it is for the
// user alone.
const (
	userColumns = `u.id, u.username, u.display_name, u.bio, u.avatar_url, u.role, u.created_at,
	coalesce(c.followers, 0) AS follower_count, coalesce(c.following, 0) AS following_count, l.id AS live_stream_id`
	userJoins = `
LEFT JOIN follow_counts c ON c.user_id = u.id
LEFT JOIN streams l ON l.user_id = u.id AND l.status IN ('live', 'reconnecting')`
)

const (
	createUserSQL = `-- name: users.create
WITH u AS (
	INSERT INTO users (id, username, email, display_name, password_hash) VALUES ($1, $2, $3, $4, $5) RETURNING *
)
SELECT u.email, ` + userColumns + ` FROM u` + userJoins

	userByIDSQL = `-- name: users.by_id
SELECT u.email, ` + userColumns + ` FROM users u` + userJoins + ` WHERE u.id = $1`

	credentialsSQL = `-- name: users.credentials
SELECT id, password_hash, role FROM users WHERE lower(email) = lower($1)`

	updateUserSQL = `-- name: users.update
WITH u AS (
	UPDATE users SET display_name = coalesce($2, display_name), bio = coalesce($3, bio), avatar_url = coalesce($4, avatar_url)
	WHERE id = $1 RETURNING *
)
SELECT u.email, ` + userColumns + ` FROM u` + userJoins

	setRoleSQL = `-- name: users.set_role
UPDATE users SET role = $2 WHERE lower(username) = lower($1)`
)

type userRow struct {
	ID             uuid.UUID
	Username       string
	DisplayName    string
	Bio            string
	AvatarURL      string `db:"avatar_url"`
	Role           livestream.Role
	CreatedAt      time.Time
	FollowerCount  int64
	FollowingCount int64
	LiveStreamID   *uuid.UUID
}

func (r userRow) domain() livestream.User {
	return livestream.User{
		ID: r.ID, Username: r.Username, DisplayName: r.DisplayName, Bio: r.Bio, AvatarURL: r.AvatarURL, Role: r.Role,
		FollowerCount: r.FollowerCount, FollowingCount: r.FollowingCount, LiveStreamID: r.LiveStreamID, CreatedAt: r.CreatedAt,
	}
}

type ownUserRow struct {
	userRow
	Email string
}

func (r ownUserRow) domain() livestream.User {
	user := r.userRow.domain()
	user.Email = r.Email
	return user
}

// Create registers a member; CodeUsernameTaken or CodeEmailTaken when another
// one has the name or the address, in whatever case.
func (s *Users) Create(ctx context.Context, user livestream.NewUser) (livestream.User, error) {
	row, err := one[ownUserRow](ctx, s.db.primary, createUserSQL, user.ID, user.Username, user.Email, user.DisplayName, user.PasswordHash)
	return row.domain(), fail(ctx, "create user", err)
}

// ByID gives a member; CodeUserNotFound.
func (s *Users) ByID(ctx context.Context, id uuid.UUID) (livestream.User, error) {
	row, err := readOne[ownUserRow](ctx, s.db, userByIDSQL, id)
	return row.domain(), failOr(ctx, "read user", err, userNotFound())
}

// CredentialsByEmail gives what a login is checked against; CodeUserNotFound.
func (s *Users) CredentialsByEmail(ctx context.Context, email string) (livestream.Credentials, error) {
	row, err := one[credentialsRow](ctx, s.db.primary, credentialsSQL, email)
	return livestream.Credentials{UserID: row.ID, PasswordHash: row.PasswordHash, Role: row.Role}, failOr(ctx, "read credentials", err, userNotFound())
}

type credentialsRow struct {
	ID           uuid.UUID
	PasswordHash string
	Role         livestream.Role
}

// Update changes a profile; CodeUserNotFound.
func (s *Users) Update(ctx context.Context, id uuid.UUID, patch livestream.UserPatch) (livestream.User, error) {
	row, err := one[ownUserRow](ctx, s.db.primary, updateUserSQL, id, patch.DisplayName, patch.Bio, patch.AvatarURL)
	return row.domain(), failOr(ctx, "update user", err, userNotFound())
}

// SetRole changes what a member may do; CodeUserNotFound.
func (s *Users) SetRole(ctx context.Context, username string, role livestream.Role) error {
	tag, err := s.db.primary.Exec(ctx, setRoleSQL, username, role)
	if err == nil && tag.RowsAffected() == 0 {
		return userNotFound()
	}
	return fail(ctx, "set role", err)
}
