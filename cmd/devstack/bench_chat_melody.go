package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/olahol/melody"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// melodyCmd is the baseline: melody as its documentation has it, one for all
// streams, with BroadcastFilter.
type melodyCmd struct {
	Address string `arg:""`
}

// Run serves until it is killed.
func (c *melodyCmd) Run(ctx context.Context) error {
	m := melody.New()
	var (
		mu   sync.Mutex // so that ids are in order
		last int64
	)
	m.HandleConnect(func(s *melody.Session) {
		_ = s.Write([]byte(`{"events":[{"type":"welcome","resume_from":0,"recovered":false}]}`))
	})
	m.HandleMessage(func(s *melody.Session, content []byte) {
		var message struct{ Text, Nonce string }
		if json.Unmarshal(content, &message) != nil {
			return
		}
		path := s.Request.URL.Path
		mu.Lock()
		defer mu.Unlock()
		last++
		event := fmt.Sprintf(`{"events":[{"id":%d,"type":"message","user":{"id":%q,"username":"speaker","display_name":"speaker","roles":["owner"]},"text":%q,"sent_at":%q,"nonce":%q}]}`,
			last, uuid.Nil, message.Text, time.Now().Format(time.RFC3339Nano), message.Nonce)
		_ = m.BroadcastFilter([]byte(event), func(other *melody.Session) bool { return other.Request.URL.Path == path })
	})
	mux := http.NewServeMux()
	mux.HandleFunc("/ws/", func(w http.ResponseWriter, r *http.Request) { _ = m.HandleRequest(w, r) })
	mux.Handle("/metrics", promhttp.Handler())
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(listener)
}
