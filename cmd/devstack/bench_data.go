package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.temporal.io/api/serviceerror"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/auth"
	"github.com/livestream-pro/livestream-pro/internal/client"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// The benchmark's members are made in the database, in sets, and stay for the
// next run. Nobody can log in as one: their password's hash is none.
const (
	benchCreatorSQL = `
INSERT INTO users (id, username, email, display_name, password_hash)
VALUES (uuid_v7(), $1, $1 || '@bench.example', $1, '!') ON CONFLICT DO NOTHING`

	benchFollowersSQL = `
INSERT INTO users (id, username, email, display_name, password_hash)
SELECT uuid_v7(), 'bench_follower_' || n, 'bench_follower_' || n || '@bench.example', 'Follower ' || n, '!'
FROM generate_series(1, $1::int) n ON CONFLICT DO NOTHING`

	benchFollowSQL = `
INSERT INTO follows (follower_id, following_id)
SELECT f.id, $1 FROM generate_series(1, $2::int) n JOIN users f ON lower(f.username) = 'bench_follower_' || n
ON CONFLICT DO NOTHING`

	benchCountsSQL = `
INSERT INTO follow_counts (user_id, followers)
SELECT $1, count(*) FROM follows WHERE following_id = $1
ON CONFLICT (user_id) DO UPDATE SET followers = EXCLUDED.followers`

	benchFollowingSQL = `
INSERT INTO follow_counts (user_id, following)
SELECT f.follower_id, count(*) FROM follows f JOIN users u ON u.id = f.follower_id AND u.email LIKE '%@bench.example'
GROUP BY f.follower_id ORDER BY f.follower_id
ON CONFLICT (user_id) DO UPDATE SET following = EXCLUDED.following`
)

// prepare makes the creators and their followers, and ends what an earlier run
// that was broken off left live.
func (b *bench) prepare(ctx context.Context) error {
	fmt.Printf("preparing %d creators with %d followers each, and as many without\n", benchCreators, benchFollowers)
	return b.members(ctx, func(conn *pgx.Conn, creator func(string) (member, error)) error {
		if _, err := conn.Exec(ctx, benchFollowersSQL, benchFollowers); err != nil {
			return err
		}
		for i := range benchCreators {
			for _, kind := range []struct {
				name      string
				followers int
				members   *[]member
			}{{"bench_nobody", 0, &b.nobody}, {fmt.Sprintf("bench_popular_%d", benchFollowers), benchFollowers, &b.popular}} {
				creator, err := creator(fmt.Sprintf("%s_%d", kind.name, i+1))
				if err != nil {
					return err
				}
				if err := b.follow(ctx, conn, creator.id, kind.followers); err != nil {
					return fmt.Errorf("followers of %s: %w", creator.name, err)
				}
				*kind.members = append(*kind.members, creator)
			}
		}
		if _, err := conn.Exec(ctx, benchFollowingSQL); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "ANALYZE users, follows, follow_counts")
		return err
	})
}

// members has a benchmark's members made, by make, which may ask for creators by name.
func (b *bench) members(ctx context.Context, make func(conn *pgx.Conn, creator func(name string) (member, error)) error) error {
	began := time.Now()
	conn, err := pgx.Connect(ctx, b.env.DatabaseURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	tokens, err := auth.LoadTokens(b.env.JWTKeyFile, time.Now)
	if err != nil {
		return err
	}
	err = make(conn, func(name string) (member, error) { return b.creator(ctx, conn, tokens, name) })
	if err != nil {
		return err
	}
	fmt.Printf("  ready after %s\n", time.Since(began).Round(100*time.Millisecond))
	return nil
}

func (b *bench) creator(ctx context.Context, conn *pgx.Conn, tokens *auth.Tokens, name string) (member, error) {
	if _, err := conn.Exec(ctx, benchCreatorSQL, name); err != nil {
		return member{}, err
	}
	var id uuid.UUID
	if err := conn.QueryRow(ctx, "SELECT id FROM users WHERE lower(username) = $1", name).Scan(&id); err != nil {
		return member{}, err
	}
	token, err := tokens.Issue(livestream.Identity{UserID: id, Role: livestream.RoleMember, FamilyID: uuid.New()})
	if err != nil {
		return member{}, err
	}
	creator := member{Client: client.New(b.env.APIURL).WithToken(token), id: id.String(), name: name}
	var live struct{ Data []streamView }
	if err := creator.Do(ctx, "GET", "/api/streams?status=live&user_id="+creator.id, nil, &live); err != nil {
		return creator, err
	}
	for _, stream := range live.Data {
		err := until(ctx, time.Minute, func() (bool, error) {
			return creator.Do(ctx, "POST", "/api/streams/"+stream.ID+"/end", nil, nil) == nil, nil
		})
		if err != nil {
			return creator, fmt.Errorf("end stream %s: %w", stream.ID, err)
		}
	}
	return creator, nil
}

func (b *bench) follow(ctx context.Context, conn *pgx.Conn, creator string, followers int) error {
	var have int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM follows WHERE following_id = $1", creator).Scan(&have); err != nil {
		return err
	}
	if have == followers {
		return nil
	}
	if _, err := conn.Exec(ctx, benchFollowSQL, creator, followers); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, benchCountsSQL, creator)
	return err
}

// cancelFanOut tells a stream's fan-out to stop, once it has begun: the stream's
// workflow starts it after the answer.
func (b *bench) cancelFanOut(ctx context.Context, stream uuid.UUID) error {
	id := workflows.NotifyID(stream)
	return until(ctx, time.Minute, func() (bool, error) {
		_, err := b.temporal.DescribeWorkflowExecution(ctx, id, "")
		if none := new(serviceerror.NotFound); errors.As(err, &none) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		err = b.temporal.SignalWorkflow(ctx, id, "", workflows.SignalCancel, nil)
		if ended := new(serviceerror.NotFound); errors.As(err, &ended) {
			return true, nil
		}
		return true, err
	})
}

// cleanUp waits for the end of the fan-outs and removes the notifications, so that
// a stack that stays has its machine back.
func (b *bench) cleanUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := b.sweep(ctx); err != nil {
		fmt.Println("could not clean up:", err)
	}
}

func (b *bench) sweep(ctx context.Context) error {
	for _, stream := range b.streams {
		err := b.temporal.GetWorkflow(ctx, workflows.NotifyID(stream), "").Get(ctx, nil)
		if none := new(serviceerror.NotFound); err != nil && !errors.As(err, &none) {
			return err
		}
	}
	conn, err := pgx.Connect(ctx, b.env.DatabaseURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, "DELETE FROM notifications n USING users u WHERE u.id = n.user_id AND u.email LIKE '%@bench.example'")
	return err
}
