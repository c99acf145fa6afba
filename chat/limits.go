package chat

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
)

// tooMany is what one more connection is answered than a member or an address may
// have.
func tooMany(whose string) error {
	return &livestream.Error{Code: livestream.CodeRateLimited, Message: whose + " has too many connections to this node", RetryAfter: 10 * time.Second}
}

// admit counts a connection of an address.
//
// Errors: rate_limited.
func (s *Server) admit(x *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addrs[x.address] >= s.config.MaxPerAddress {
		return tooMany("this address")
	}
	s.addrs[x.address]++
	return nil
}

// admitUser counts a connection of a member.
//
// Errors: rate_limited.
func (s *Server) admitUser(x *session, user uuid.UUID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[user] >= s.config.MaxPerUser {
		return tooMany("this member")
	}
	s.users[user]++
	x.counted = true
	return nil
}

// release uncounts a connection. It runs under the lock.
func (s *Server) release(x *session) {
	s.open.Add(-1)
	if s.addrs[x.address]--; s.addrs[x.address] == 0 {
		delete(s.addrs, x.address)
	}
	if x.counted {
		if s.users[x.identity.UserID]--; s.users[x.identity.UserID] == 0 {
			delete(s.users, x.identity.UserID)
		}
	}
}

// addressOf is where a request comes from: the other end of the connection, or what
// trusted proxies say, the nearest first.
func (s *Server) addressOf(r *http.Request) netip.Addr {
	trusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(s.config.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	at, _ := netip.ParseAddrPort(r.RemoteAddr)
	address := at.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && trusted(address); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		address = hop.Unmap()
	}
	return address
}
