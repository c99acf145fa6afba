package livestream

import (
	"time"

	"github.com/google/uuid"
)

// Role is what a user may do on the whole platform.
type Role string

const (
	RoleMember Role = "member"
	RoleAdmin  Role = "admin"
)

// User is a member. Email is for the user alone.
type User struct {
	ID             uuid.UUID
	Username       string
	Email          string
	DisplayName    string
	Bio            string
	AvatarURL      string
	Role           Role
	FollowerCount  int64
	FollowingCount int64
	LiveStreamID   *uuid.UUID
	CreatedAt      time.Time
}

// NewUser is a registration that passed validation; the password is hashed.
type NewUser struct {
	ID           uuid.UUID
	Username     string
	Email        string
	DisplayName  string
	PasswordHash string
}

// Credentials is what a login is checked against.
type Credentials struct {
	UserID       uuid.UUID
	PasswordHash string
	Role         Role
}

// UserPatch changes what is not nil.
type UserPatch struct {
	DisplayName *string
	Bio         *string
	AvatarURL   *string
}

// Follow is one side of a follow, as a list shows it.
type Follow struct {
	User       User
	FollowedAt time.Time
}

// Block is a member whom another does not want to be told of, followed by or tipped by.
type Block struct {
	User      User
	BlockedAt time.Time
}
