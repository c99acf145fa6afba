package redis

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/redis/go-redis/v9"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Tickets open WebSockets, once each.
type Tickets struct{ client *Client }

// NewTickets are the tickets of a Redis.
func NewTickets(client *Client) *Tickets { return &Tickets{client} }

// Issue makes a ticket that can be used once within livestream.TicketLifetime.
// Only its hash is stored.
func (t *Tickets) Issue(ctx context.Context, ticket livestream.Ticket) (string, error) {
	var secret [24]byte
	_, _ = rand.Read(secret[:]) // it never fails; see crypto/rand
	token := base64.RawURLEncoding.EncodeToString(secret[:])
	content, err := json.Marshal(ticket)
	if err != nil {
		return "", fmt.Errorf("write a ticket: %w", err)
	}
	return token, edge("issue a ticket", t.client.commands.Set(ctx, ticketKey(token), content, livestream.TicketLifetime).Err())
}

// Redeem takes a ticket; it is gone then.
//
// Errors: invalid_ticket.
func (t *Tickets) Redeem(ctx context.Context, token string) (livestream.Ticket, error) {
	var ticket livestream.Ticket
	content, err := t.client.commands.GetDel(ctx, ticketKey(token)).Bytes()
	if err == redis.Nil { //nolint:errorlint // go-redis returns the value itself
		return ticket, livestream.Errorf(livestream.CodeInvalidWebSocketTicket, "the ticket is unknown, used or expired; ask for a new one")
	}
	if err != nil {
		return ticket, edge("redeem a ticket", err)
	}
	if err := json.Unmarshal(content, &ticket); err != nil {
		return ticket, fmt.Errorf("read a ticket: %w", err)
	}
	return ticket, nil
}

func ticketKey(token string) string {
	sum := sha256.Sum256([]byte(token))
	return "ticket:" + hex.EncodeToString(sum[:])
}
