package httpapi

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	livestream "github.com/livestream-pro/livestream-pro"
)

// RateLimiter counts attempts over all processes. It always decides: when its
// store is away, it counts in this process alone.
type RateLimiter interface {
	Allow(ctx context.Context, limit livestream.RateLimit, key string) livestream.RateDecision
}

// Limits are how often a member, or an address without a token, may ask. A rate
// of zero is the default.
type Limits struct {
	// ReadsPerMinute for each member or address; default 1,200.
	ReadsPerMinute int
	// WritesPerMinute for each member; default 300.
	WritesPerMinute int
	// LoginsPerMinute for each address, registrations included; default 120.
	LoginsPerMinute int
	// LoginsPerAccount and minute, whatever the addresses; default 10.
	LoginsPerAccount int
}

func (l Limits) withDefaults() Limits {
	for rate, otherwise := range map[*int]int{
		&l.ReadsPerMinute: 1200, &l.WritesPerMinute: 300, &l.LoginsPerMinute: 120, &l.LoginsPerAccount: 10,
	} {
		if *rate == 0 {
			*rate = otherwise
		}
	}
	return l
}

// perMinute allows all of a minute's attempts at once: clients come in bursts.
func perMinute(name string, rate int) livestream.RateLimit {
	return livestream.RateLimit{Name: name, Rate: rate, Per: time.Minute, Burst: rate}
}

// limitClass says which limit an operation is under; false is none: Stripe and
// load balancers are not turned away.
func (s *Server) limitClass(operation, method string) (livestream.RateLimit, bool) {
	switch operation {
	case "stripeWebhook", "getHealth", "getReady", "getJWKS":
		return livestream.RateLimit{}, false
	case "register", "login", "refresh", "logout":
		return perMinute("login", s.config.Limits.LoginsPerMinute), true
	}
	if method == "GET" {
		return perMinute("read", s.config.Limits.ReadsPerMinute), true
	}
	return perMinute("write", s.config.Limits.WritesPerMinute), true
}

func policyOf(limit livestream.RateLimit) string {
	return fmt.Sprintf("%q;q=%d;w=%d", limit.Name, limit.Rate, int(limit.Per.Seconds()))
}

// limitRate turns away who asks too often. It runs after authenticate, so that
// those who share an address are told apart by their tokens.
func (s *Server) limitRate(c *gin.Context) {
	operation := s.operations.of(c)
	if operation.limit == nil {
		return
	}
	who := "address:" + addressGroup(c.ClientIP())
	if identity, ok := identityOf(c); ok {
		who = "user:" + identity.UserID.String()
	}
	decision := s.deps.RateLimiter.Allow(c.Request.Context(), *operation.limit, who)
	header := c.Writer.Header() // names are as net/http writes them
	header["Ratelimit-Policy"] = operation.policy
	header["Ratelimit"] = []string{`"` + operation.limit.Name + `";r=` + strconv.Itoa(decision.Remaining) + ";t=" + strconv.Itoa(seconds(decision.ResetAfter))}
	if !decision.Allowed {
		s.fail(c, tooMany(decision))
	}
}

// limitAccount bounds the attempts to guess one account's password.
func (s *Server) limitAccount(ctx context.Context, email string) error {
	decision := s.deps.RateLimiter.Allow(ctx, perMinute("account", s.config.Limits.LoginsPerAccount), "account:"+strings.ToLower(email))
	if !decision.Allowed {
		return tooMany(decision)
	}
	return nil
}

func tooMany(decision livestream.RateDecision) error {
	return &livestream.Error{
		Code: livestream.CodeRateLimited, Message: "this is too often; Retry-After says when to come back", RetryAfter: max(decision.RetryAfter, time.Second),
	}
}

func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// addressGroup is an address, or the network that one subscriber has in IPv6.
func addressGroup(address string) string {
	parsed, err := netip.ParseAddr(address)
	if err != nil || parsed.Unmap().Is4() {
		return address
	}
	network, err := parsed.Prefix(64)
	if err != nil {
		return address
	}
	return network.String()
}
