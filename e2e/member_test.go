package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/client"
)

// member is somebody who uses the product, through its API alone.
type member struct {
	*client.Client
	s        *stack
	id, name string
	token    string
}

// What the API answers, as far as these tests look at it.
type (
	streamView struct {
		ID         string  `json:"id"`
		Status     string  `json:"status"`
		WorkflowID string  `json:"workflow_id"`
		ArchiveID  *string `json:"archive_id"`
		EndedAt    *string `json:"ended_at"`
	}
	timelineView struct {
		Data []struct {
			Seq  int64  `json:"seq"`
			Type string `json:"type"`
		} `json:"data"`
	}
	progressView struct {
		Status         string `json:"status"`
		FollowersTotal int64  `json:"followers_total"`
		Notified       int64  `json:"notified"`
		Failed         int64  `json:"failed"`
	}
	failureView struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	archiveView struct {
		ID              string  `json:"id"`
		StreamID        string  `json:"stream_id"`
		Status          string  `json:"status"`
		Progress        float64 `json:"progress"`
		DurationSeconds float64 `json:"duration_seconds"`
		PlaybackURL     string  `json:"playback_url"`
		ThumbnailURL    string  `json:"thumbnail_url"`
		Renditions      []struct {
			Name string `json:"name"`
		} `json:"renditions"`
		Failure *failureView `json:"failure"`
	}
	transactionView struct {
		ID         string       `json:"id"`
		Status     string       `json:"status"`
		Amount     int64        `json:"amount"`
		WorkflowID string       `json:"workflow_id"`
		IntentID   string       `json:"stripe_payment_intent_id"`
		Refunded   int64        `json:"refunded_amount"`
		Failure    *failureView `json:"failure"`
	}
	notificationView struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
)

// register opens an account; others may have members of the same name.
func (s *stack) register(name string) member {
	s.Helper()
	name += "_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
	var out struct {
		User        struct{ ID string } `json:"user"`
		AccessToken string              `json:"access_token"`
	}
	in := map[string]any{"username": name, "email": name + "@example.com", "password": "correct horse battery"}
	require.NoError(s, client.New(s.env.APIURL).Do(s.ctx, http.MethodPost, "/api/auth/register", in, &out))
	return member{Client: client.New(s.env.APIURL).WithToken(out.AccessToken), s: s, id: out.User.ID, name: name, token: out.AccessToken}
}

// must sends a request that has to work.
func (m member) must(method, path string, in, out any, headers ...string) {
	m.s.Helper()
	require.NoError(m.s, m.ask(method, path, in, out, headers...))
}

// ask sends a request. On a busy machine the answer may be to come back later,
// which it does, as a client would.
func (m member) ask(method, path string, in, out any, headers ...string) error {
	for {
		err := m.Do(m.s.ctx, method, path, in, out, headers...)
		var problem *client.Problem
		if !errors.As(err, &problem) || problem.RetryAfter == "" {
			return err
		}
		seconds, malformed := strconv.Atoi(problem.RetryAfter)
		if malformed != nil {
			return fmt.Errorf("%w; Retry-After is %q", err, problem.RetryAfter)
		}
		select {
		case <-time.After(time.Duration(seconds) * time.Second):
		case <-m.s.ctx.Done():
			return err
		}
	}
}

func (m member) follow(other member) {
	m.s.Helper()
	m.must(http.MethodPut, "/api/users/"+other.id+"/follow", nil, nil)
}

// start goes live. recorded says whether a recording will follow.
func (m member) start(recorded bool) streamView {
	m.s.Helper()
	var stream streamView
	m.must(http.MethodPost, "/api/streams", map[string]any{"title": "Live from the workshop", "record": recorded}, &stream)
	require.Equal(m.s, "live", stream.Status)
	return stream
}

func (m member) stream(id string) streamView {
	m.s.Helper()
	var stream streamView
	m.must(http.MethodGet, "/api/streams/"+id, nil, &stream)
	return stream
}

// end asks for a stream's end and waits for it.
func (m member) end(stream streamView) {
	m.s.Helper()
	m.must(http.MethodPost, "/api/streams/"+stream.ID+"/end", nil, nil)
	m.s.until("the stream has ended", func() bool { return m.stream(stream.ID).Status == "ended" })
}

// timeline is the types of what happened to a stream, in order. Their numbers
// must have no gap.
func (m member) timeline(streamID string) []string {
	m.s.Helper()
	var out timelineView
	m.must(http.MethodGet, "/api/streams/"+streamID+"/timeline?limit=100", nil, &out)
	types := make([]string, len(out.Data))
	for i, event := range out.Data {
		require.EqualValues(m.s, i+1, event.Seq, "the timeline has a gap")
		types[i] = event.Type
	}
	return types
}

// happened waits until a stream's timeline is as long as it should be, and checks
// that it has all of that, once.
func (m member) happened(streamID string, want ...string) (types []string) {
	m.s.Helper()
	m.s.until("the timeline is complete", func() bool {
		types = m.timeline(streamID)
		return len(types) >= len(want)
	})
	require.ElementsMatch(m.s, want, types)
	return types
}

func (m member) progress(streamID string) progressView {
	m.s.Helper()
	var progress progressView
	m.must(http.MethodGet, "/api/streams/"+streamID+"/notification-progress", nil, &progress)
	return progress
}

// progressed waits until the fan-out of a stream has come to that state.
func (m member) progressed(streamID, status string) (progress progressView) {
	m.s.Helper()
	m.s.until("the fan-out is "+status, func() bool {
		progress = m.progress(streamID)
		return progress.Status == status
	})
	return progress
}

func (m member) notifications() []notificationView {
	m.s.Helper()
	var out struct{ Data []notificationView }
	m.must(http.MethodGet, "/api/notifications?limit=100", nil, &out)
	return out.Data
}

// upload sends a file as a stream's recording, by presigned parts, and gives the
// id of the archive that it becomes.
func (m member) upload(streamID, file string) string {
	m.s.Helper()
	content, err := os.ReadFile(file)
	require.NoError(m.s, err)
	var upload struct {
		PartSize int64 `json:"part_size"`
		Parts    []struct {
			PartNumber int    `json:"part_number"`
			URL        string `json:"url"`
		} `json:"parts"`
		CompleteURL string `json:"complete_url"`
	}
	m.must(http.MethodPost, "/api/streams/"+streamID+"/recording", map[string]any{"content_type": "video/mp4", "size_bytes": len(content)}, &upload)
	type part struct {
		PartNumber int    `json:"part_number"`
		ETag       string `json:"etag"`
	}
	var parts []part
	for _, p := range upload.Parts {
		size := min(upload.PartSize, int64(len(content)))
		request, err := http.NewRequestWithContext(m.s.ctx, http.MethodPut, p.URL, bytes.NewReader(content[:size]))
		require.NoError(m.s, err)
		content = content[size:]
		response, err := http.DefaultClient.Do(request)
		require.NoError(m.s, err)
		answer, err := io.ReadAll(response.Body)
		require.NoError(m.s, err)
		require.NoError(m.s, response.Body.Close())
		require.Equal(m.s, http.StatusOK, response.StatusCode, string(answer))
		parts = append(parts, part{p.PartNumber, response.Header.Get("ETag")})
	}
	require.Empty(m.s, content, "the parts do not hold the whole file")
	complete, err := url.Parse(upload.CompleteURL)
	require.NoError(m.s, err)
	var done struct {
		ArchiveID string `json:"archive_id"`
	}
	m.must(http.MethodPost, complete.Path, map[string]any{"parts": parts}, &done)
	return done.ArchiveID
}

func (m member) archive(id string) archiveView {
	m.s.Helper()
	var archive archiveView
	m.must(http.MethodGet, "/api/archives/"+id, nil, &archive)
	return archive
}

// archived waits until an archive has come to that state.
func (m member) archived(id, status string) archiveView {
	m.s.Helper()
	var archive archiveView
	m.s.until("the archive is "+status, func() bool {
		archive = m.archive(id)
		return archive.Status == status
	})
	return archive
}

// tip pays a creator, under a key.
func (m member) tip(key string, in map[string]any) (transactionView, error) {
	var transaction transactionView
	body := map[string]any{"kind": "tip", "amount": 500, "currency": "usd", "payment_method": "pm_card_visa"}
	for name, value := range in {
		body[name] = value
	}
	err := m.ask(http.MethodPost, "/api/transactions", body, &transaction, "Idempotency-Key", key)
	return transaction, err
}

func (m member) transaction(id string) transactionView {
	m.s.Helper()
	var transaction transactionView
	m.must(http.MethodGet, "/api/transactions/"+id, nil, &transaction)
	return transaction
}

// paid waits until a payment has come to that state.
func (m member) paid(id, status string) transactionView {
	m.s.Helper()
	var transaction transactionView
	m.s.until("the payment is "+status, func() bool {
		transaction = m.transaction(id)
		return transaction.Status == status
	})
	return transaction
}

// mustTip tips and waits until it is booked.
func (m member) mustTip(creator member, method string) transactionView {
	m.s.Helper()
	tip, err := m.tip(uuid.NewString(), map[string]any{"recipient_id": creator.id, "payment_method": method})
	require.NoError(m.s, err)
	tip = m.paid(tip.ID, "succeeded")
	m.s.completed(tip.WorkflowID)
	return tip
}

// refund gives so much of a payment back.
func (m member) refund(id string, amount int) (transaction transactionView) {
	m.s.Helper()
	m.must(http.MethodPost, "/api/transactions/"+id+"/refund", map[string]any{"amount": amount}, &transaction)
	return transaction
}

// refunded waits until so much of a payment has gone back.
func (m member) refunded(id string, amount int64) {
	m.s.Helper()
	m.s.until("the money has gone back", func() bool { return m.transaction(id).Refunded == amount })
}

// balance is what a creator has in US dollars, in cents.
func (m member) balance() int64 {
	m.s.Helper()
	var out struct {
		Balances []struct {
			Currency  string `json:"currency"`
			Available int64  `json:"available"`
			Pending   int64  `json:"pending"`
		} `json:"balances"`
	}
	m.must(http.MethodGet, "/api/users/me/balance", nil, &out)
	for _, b := range out.Balances {
		if b.Currency == "usd" {
			return b.Available + b.Pending
		}
	}
	return 0
}

// listen opens a WebSocket as this member and reads its welcome. node is the
// address of a chat node, or empty for the one that the API names.
func (m member) listen(node string, ticket map[string]any) *client.Socket {
	m.s.Helper()
	var (
		socket  *client.Socket
		problem *client.Problem
	)
	m.s.until("the WebSocket is open", func() bool {
		var out struct {
			URL string `json:"url"`
		}
		m.must(http.MethodPost, "/api/ws-tickets", ticket, &out)
		if node != "" {
			address, err := url.Parse(out.URL)
			require.NoError(m.s, err)
			out.URL = node + address.RequestURI()
		}
		var err error
		socket, err = client.Dial(m.s.ctx, out.URL)
		if errors.As(err, &problem) && problem.Status == http.StatusServiceUnavailable {
			return false // a client comes back
		}
		require.NoError(m.s, err)
		return true
	})
	m.s.Cleanup(func() { _ = socket.Close() })
	m.s.hear(socket, "welcome")
	return socket
}

// hear reads events until one of that type comes.
func (s *stack) hear(socket *client.Socket, kind string) client.Event {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, *patience)
	defer cancel()
	for {
		event, err := socket.Next(ctx)
		require.NoError(s, err, "while waiting for an event of type %s", kind)
		if event.Type == kind {
			return event
		}
	}
}

// refused checks that the API answered with that problem.
func (s *stack) refused(err error, status int, code string) {
	s.Helper()
	var problem *client.Problem
	require.ErrorAs(s, err, &problem)
	require.Equal(s, status, problem.Status, problem.Error())
	require.Equal(s, code, problem.Code)
}

// quickly is how long an answer may take that something is not there.
const quickly = 15 * time.Second
