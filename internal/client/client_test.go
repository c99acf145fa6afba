package client_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/client"
)

func serve(tb testing.TB, handler http.HandlerFunc) string {
	tb.Helper()
	server := httptest.NewServer(handler)
	tb.Cleanup(server.Close)
	return server.URL
}

func TestDo(t *testing.T) {
	t.Parallel()
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		w.Header().Set("Retry-After", "3")
		switch r.URL.Path {
		case "/problem":
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"status":503,"code":"unavailable","detail":"later","request_id":"r"}`))
		case "/plain":
			http.Error(w, "bad gateway", http.StatusBadGateway)
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		default:
			_, _ = w.Write([]byte(`{"sent":` + string(content) + `,"by":"` + r.Header.Get("Authorization") + `","key":"` + r.Header.Get("Idempotency-Key") + `"}`))
		}
	})
	c, ctx := client.New(base), context.Background()
	var out struct {
		Sent    map[string]int
		By, Key string
	}
	require.NoError(t, c.WithToken("t").Do(ctx, "POST", "/echo", map[string]int{"a": 1}, &out, "Idempotency-Key", "k"))
	require.Equal(t, map[string]int{"a": 1}, out.Sent)
	require.Equal(t, "Bearer t", out.By)
	require.Equal(t, "k", out.Key)
	require.NoError(t, c.Do(ctx, "GET", "/empty", nil, &out))

	var problem *client.Problem
	require.ErrorAs(t, c.Do(ctx, "GET", "/problem", nil, nil), &problem)
	require.Equal(t, client.Problem{Status: 503, Code: "unavailable", Detail: "later", RequestID: "r", RetryAfter: "3"}, *problem)
	require.ErrorAs(t, c.Do(ctx, "GET", "/plain", nil, nil), &problem)
	require.Equal(t, 502, problem.Status)
	require.Contains(t, problem.Detail, "bad gateway")
}

func TestSocket(t *testing.T) {
	t.Parallel()
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("ticket") != "good" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"status":401,"code":"invalid_ticket"}`))
			return
		}
		upgrader := websocket.Upgrader{Subprotocols: []string{"livestream.v1"}}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		_, said, _ := conn.ReadMessage()
		_ = conn.WriteMessage(websocket.TextMessage, []byte(`{"events":[{"type":"welcome"},{"id":7,"type":"message","text":`+string(said)+`}]}`))
		_ = conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4001, "resync"))
	})
	base = "ws" + strings.TrimPrefix(base, "http")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var problem *client.Problem
	_, err := client.Dial(ctx, base)
	require.ErrorAs(t, err, &problem)
	require.Equal(t, "invalid_ticket", problem.Code)

	s, err := client.Dial(ctx, base+"?ticket=good")
	require.NoError(t, err)
	defer s.Close()
	impatient, giveUp := context.WithTimeout(ctx, time.Millisecond)
	defer giveUp()
	_, err = s.Next(impatient)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, s.Send(ctx, "hi"))
	event, err := s.Next(ctx)
	require.NoError(t, err, "a wait that is given up loses nothing")
	require.Equal(t, "welcome", event.Type)
	event, err = s.Next(ctx)
	require.NoError(t, err)
	require.Equal(t, int64(7), event.ID)
	var body struct{ Text string }
	require.NoError(t, event.Decode(&body))
	require.Equal(t, "hi", body.Text)
	_, err = s.Next(ctx)
	var closed *websocket.CloseError
	require.ErrorAs(t, err, &closed, "the end says why")
	require.Equal(t, 4001, closed.Code)
}
