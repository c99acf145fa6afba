package e2e

import (
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/livestream-pro/livestream-pro/internal/client"
)

func TestCreatorHasOneStreamHoweverManyRequestsRace(t *testing.T) {
	t.Parallel()
	s := newStack(t, api|worker)
	ada := s.register("ada")
	const requests = 50
	var (
		mu      sync.Mutex
		started []streamView
		refused int
		group   errgroup.Group
	)
	for range requests {
		group.Go(func() error {
			var (
				stream  streamView
				problem *client.Problem
			)
			err := ada.ask(http.MethodPost, "/api/streams", map[string]any{"title": "me first"}, &stream)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				started = append(started, stream)
			case errors.As(err, &problem) && problem.Status == http.StatusConflict && problem.Code == "already_streaming":
				refused++
			default:
				return err
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.Len(t, started, 1)
	require.Equal(t, requests-1, refused)
	require.EqualValues(t, 1, s.number("SELECT count(*) FROM streams WHERE user_id = $1", ada.id))
	ada.end(started[0])
}
