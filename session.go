package livestream

import (
	"time"

	"github.com/google/uuid"
)

// Lifetimes of tokens.
const (
	AccessTokenLifetime  = time.Hour
	RefreshTokenLifetime = 7 * 24 * time.Hour
	// RefreshGrace is how long a used refresh token still gives its successor,
	// because the answer that carried it may have been lost.
	RefreshGrace = 10 * time.Second
)

// RefreshToken is a stored refresh token: its hash, never the token. All that
// descend from one login share FamilyID, and are revoked together.
type RefreshToken struct {
	Hash      []byte // SHA-256 of the token
	FamilyID  uuid.UUID
	UserID    uuid.UUID
	ExpiresAt time.Time
}

// Identity is who makes a request.
type Identity struct {
	UserID uuid.UUID
	Role   Role
	// FamilyID ties an access token to its login, so that a logout can close
	// what the token opened.
	FamilyID uuid.UUID
}

// JWK is a public key that verifies access tokens, as RFC 8037 has it.
type JWK struct {
	KeyType string `json:"kty"`
	Curve   string `json:"crv"`
	X       string `json:"x"`
	KeyID   string `json:"kid"`
	Alg     string `json:"alg"`
	Use     string `json:"use"`
}

// TicketPurpose is what a WebSocket ticket opens.
type TicketPurpose string

const (
	TicketChat          TicketPurpose = "chat"
	TicketNotifications TicketPurpose = "notifications"
)

// TicketLifetime is how long a WebSocket ticket may be used, once.
const TicketLifetime = 30 * time.Second

// Ticket lets a WebSocket be opened without a token in its address.
type Ticket struct {
	Purpose  TicketPurpose `json:"purpose"`
	Identity Identity      `json:"identity"`
	StreamID uuid.UUID     `json:"stream_id"` // only with TicketChat
}
