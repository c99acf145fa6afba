package postgres

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Users are the accounts.
type Users struct{ db *DB }

// NewUsers are the accounts of a database.
func NewUsers(db *DB) *Users { return &Users{db} }

const userColumns = `u.id, u.username, u.email, u.display_name, u.bio, u.avatar_url, u.role,
	coalesce(c.followers, 0), coalesce(c.following, 0),
	(SELECT s.id FROM streams s WHERE s.user_id = u.id AND s.status IN ('starting', 'live', 'reconnecting')), u.created_at`

const userFrom = ` FROM users u LEFT JOIN follow_counts c ON c.user_id = u.id`

func userFields(u *livestream.User) []any {
	return []any{&u.ID, &u.Username, &u.Email, &u.DisplayName, &u.Bio, &u.AvatarURL, &u.Role,
		&u.FollowerCount, &u.FollowingCount, &u.LiveStreamID, &u.CreatedAt}
}

func scanUser(row pgx.CollectableRow) (livestream.User, error) {
	var u livestream.User
	err := row.Scan(userFields(&u)...)
	return u, err
}

const createUser = `-- name: user.create
INSERT INTO users (id, username, email, display_name, password_hash) VALUES ($1, $2, $3, $4, $5)`

// Create registers a user.
//
// Errors: username_taken, email_taken.
func (s *Users) Create(ctx context.Context, user livestream.NewUser) (livestream.User, error) {
	_, err := s.db.primary.Exec(ctx, createUser, user.ID, user.Username, user.Email, user.DisplayName, user.PasswordHash)
	if err != nil {
		return livestream.User{}, edge("create user", err)
	}
	return s.ByID(ctx, user.ID)
}

const userByID = `-- name: user.by_id
SELECT ` + userColumns + userFrom + ` WHERE u.id = $1`

// ByID finds a user.
//
// Errors: user_not_found.
func (s *Users) ByID(ctx context.Context, id uuid.UUID) (livestream.User, error) {
	user, err := one(ctx, s.db.primary, scanUser, userByID, id)
	return user, edge("user by id", orNotFound(err, errUserNotFound))
}

const credentialsByEmail = `-- name: user.credentials_by_email
SELECT id, password_hash, role FROM users WHERE lower(email) = lower($1)`

// CredentialsByEmail finds what a login is checked against.
//
// Errors: user_not_found.
func (s *Users) CredentialsByEmail(ctx context.Context, email string) (livestream.Credentials, error) {
	var c livestream.Credentials
	err := s.db.primary.QueryRow(ctx, credentialsByEmail, email).Scan(&c.UserID, &c.PasswordHash, &c.Role)
	return c, edge("credentials", orNotFound(err, errUserNotFound))
}

const updateUser = `-- name: user.update
UPDATE users SET display_name = coalesce($2, display_name), bio = coalesce($3, bio), avatar_url = coalesce($4, avatar_url)
WHERE id = $1`

// Update changes a profile.
//
// Errors: user_not_found.
func (s *Users) Update(ctx context.Context, id uuid.UUID, patch livestream.UserPatch) (livestream.User, error) {
	_, err := s.db.primary.Exec(ctx, updateUser, id, patch.DisplayName, patch.Bio, patch.AvatarURL)
	if err != nil {
		return livestream.User{}, edge("update user", err)
	}
	return s.ByID(ctx, id)
}

const setRole = `-- name: user.set_role
UPDATE users SET role = $2 WHERE lower(username) = lower($1)`

// SetRole gives a user another role.
//
// Errors: user_not_found.
func (s *Users) SetRole(ctx context.Context, username string, role livestream.Role) error {
	tag, err := s.db.primary.Exec(ctx, setRole, username, role)
	if err == nil && tag.RowsAffected() == 0 {
		err = errUserNotFound
	}
	return edge("set role", err)
}
