package livestream

import (
	"crypto/ecdh"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Limits of the browsers that members have told.
const (
	// MaxPushSubscriptions is how many browsers of one member are told; of more, the
	// oldest goes.
	MaxPushSubscriptions = 20
	// MaxPushEndpoint is the length of an endpoint in bytes. The services of browsers
	// give 200 to 600.
	MaxPushEndpoint = 1024
	// PushSecretSize is the length of a subscription's secret in bytes.
	PushSecretSize = 16
)

// PushSubscription is a browser that is to be told of its owner's notifications, by
// the service that its maker runs for that.
type PushSubscription struct {
	ID       uuid.UUID
	UserID   uuid.UUID
	FamilyID uuid.UUID // the login that it subscribed with, and is told no longer than
	Endpoint string    // where the service takes messages for it; whoever knows it may try
	Key      []byte    // the browser's public key
	Secret   []byte    // what messages are encrypted with besides
	// ServerKey is the public key of ours that it subscribed with. Its service takes
	// nothing that another has signed.
	ServerKey    string
	SubscribedAt time.Time
}

// Validate says what is wrong with what a browser gave; CodeInvalidRequest. Push
// services are on the internet, at port 443; anywhere is for those of tests and
// development.
func (s PushSubscription) Validate(anywhere bool) error {
	address, err := url.Parse(s.Endpoint)
	if err != nil || len(s.Endpoint) > MaxPushEndpoint || address.Scheme != "https" ||
		address.Hostname() == "" || address.User != nil || address.Fragment != "" {
		return Invalid("endpoint", "is no https address of up to %d characters", MaxPushEndpoint)
	}
	if port := address.Port(); !anywhere && port != "" && port != "443" {
		return Invalid("endpoint", "is at another port than 443")
	}
	if !anywhere && !onInternet(address.Hostname()) {
		return Invalid("endpoint", "is not on the internet")
	}
	if _, err := ecdh.P256().NewPublicKey(s.Key); err != nil {
		return Invalid("keys.p256dh", "is no point of P-256 in 65 bytes")
	}
	if len(s.Secret) != PushSecretSize {
		return Invalid("keys.auth", "is not of %d bytes", PushSecretSize)
	}
	return nil
}

// onInternet says whether a host may be there, by its looks: what a name stands for is
// seen when it is dialled.
func onInternet(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsGlobalUnicast() && !ip.IsPrivate()
	}
	return strings.Contains(strings.Trim(host, "."), ".")
}

// DuePush is a notification that a browser is to be told of.
type DuePush struct {
	Subscription PushSubscription
	Notification Notification
}

// PushCursor is the last subscription, by recipient, that pushes are done with.
type PushCursor struct {
	UserID         uuid.UUID `json:"user_id"`
	SubscriptionID uuid.UUID `json:"subscription_id"`
}

// Before is the cursor from which a push's recipients are read.
func (p NotificationPush) Before() PushCursor {
	if p.User != nil {
		return PushCursor{UserID: *p.User}
	}
	return PushCursor{UserID: p.Range.After, SubscriptionID: uuid.Max}
}

// Upto is a push's last recipient.
func (p NotificationPush) Upto() uuid.UUID {
	if p.User != nil {
		return *p.User
	}
	return p.Range.Upto
}

// PushResult is what became of an attempt to tell a browser.
type PushResult string

const (
	// PushSent: its service has taken it.
	PushSent PushResult = "sent"
	// PushDead: the browser is subscribed no longer.
	PushDead PushResult = "dead"
	// PushExpired: it is too late for it to be of use.
	PushExpired PushResult = "expired"
	// PushLater: the service is busy, failing or not there.
	PushLater PushResult = "later"
	// PushFailed: it would be refused again.
	PushFailed PushResult = "failed"
)
