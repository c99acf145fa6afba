package redis

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	livestream "github.com/livestream-pro/livestream-pro"
)

const (
	// viewsPending are the archives and days whose views grew since they were stored.
	viewsPending = "views:pending"
	// viewsKept is how long a day is counted on: longer than the database may be away.
	viewsKept = 7 * 24 * time.Hour
	dayFormat = "2006-01-02"
)

// Views count who watches archives, each once a day. A day of an archive is a
// HyperLogLog, which takes 12 KB for any number of viewers, is at most a per cent or
// so wrong, and holds nobody's name.
type Views struct {
	client *Client

	mu      sync.Mutex
	salt    []byte
	saltDay string
}

// NewViews are the views of a Redis's archives.
func NewViews(client *Client) *Views { return &Views{client: client} }

// It marks the day as pending only when it counted somebody new.
var countViewScript = redis.NewScript(`
if redis.call('PFADD', KEYS[1], ARGV[1]) == 1 then
	redis.call('EXPIRE', KEYS[1], ARGV[2])
	redis.call('SADD', KEYS[2], ARGV[3])
end
return 0`)

// Count counts a viewer of an archive, unless they were counted on that day.
func (v *Views) Count(ctx context.Context, archiveID uuid.UUID, viewer livestream.Viewer, now time.Time) error {
	day := now.UTC().Format(dayFormat)
	salt, err := v.saltOf(ctx, day)
	if err != nil {
		return err
	}
	// Not even Redis's log of commands gets an address. Without the salt, which goes
	// after a day or two, nobody can try which one it was.
	mac := hmac.New(sha256.New, salt)
	if viewer.UserID != nil {
		mac.Write(viewer.UserID[:])
	} else {
		mac.Write([]byte("address " + viewer.Address))
	}
	keys := []string{viewsKey(archiveID.String(), day), viewsPending}
	err = countViewScript.Run(ctx, v.client.commands, keys, mac.Sum(nil)[:16], int(viewsKept.Seconds()), archiveID.String()+"/"+day).Err()
	return edge("count a view", err)
}

func viewsKey(archiveID, day string) string { return "archive:{" + archiveID + "}:views:" + day }

// saltOf is the same for all processes on a day.
func (v *Views) saltOf(ctx context.Context, day string) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.saltDay == day {
		return v.salt, nil
	}
	salt := make([]byte, 32)
	_, _ = rand.Read(salt) // it never fails; see crypto/rand
	key := "views:salt:" + day
	before, err := v.client.commands.SetArgs(ctx, key, hex.EncodeToString(salt), redis.SetArgs{Mode: "NX", Get: true, TTL: 48 * time.Hour}).Result()
	switch {
	case err == redis.Nil: //nolint:errorlint // go-redis returns the value itself
	case err != nil:
		return nil, edge("salt the views", err)
	default:
		if salt, err = hex.DecodeString(before); err != nil {
			return nil, err
		}
	}
	v.salt, v.saltDay = salt, day
	return salt, nil
}

// Pending gives some of the days that have views to store, with all of their views,
// and where the next ones are; 0 after the last.
func (v *Views) Pending(ctx context.Context, cursor uint64) (pending []livestream.ArchiveViews, next uint64, err error) {
	members, next, err := v.client.commands.SScan(ctx, viewsPending, cursor, "", 500).Result()
	if err != nil {
		return nil, 0, edge("read pending views", err)
	}
	pipe := v.client.commands.Pipeline()
	counts := make([]*redis.IntCmd, len(members))
	for i, member := range members {
		id, day, _ := strings.Cut(member, "/")
		counts[i] = pipe.PFCount(ctx, viewsKey(id, day))
	}
	if len(members) > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, 0, edge("read pending views", err)
		}
	}
	for i, member := range members {
		id, day, _ := strings.Cut(member, "/")
		archiveID, badID := uuid.Parse(id)
		at, badDay := time.Parse(dayFormat, day)
		if badID == nil && badDay == nil {
			pending = append(pending, livestream.ArchiveViews{ArchiveID: archiveID, Day: at, Views: counts[i].Val()})
		}
	}
	return pending, next, nil
}

// What has grown meanwhile stays.
var settleViewsScript = redis.NewScript(`
if redis.call('PFCOUNT', KEYS[1]) == tonumber(ARGV[1]) then redis.call('SREM', KEYS[2], ARGV[2]) end
return 0`)

// Settle says that views are stored. Days that have more by now stay pending.
func (v *Views) Settle(ctx context.Context, stored []livestream.ArchiveViews) error {
	for _, s := range stored {
		id, day := s.ArchiveID.String(), s.Day.Format(dayFormat)
		err := settleViewsScript.Run(ctx, v.client.commands, []string{viewsKey(id, day), viewsPending}, s.Views, id+"/"+day).Err()
		if err != nil {
			return edge("settle views", err)
		}
	}
	return nil
}
