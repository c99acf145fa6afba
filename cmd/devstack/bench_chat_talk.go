package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/clients/go/chat"
)

// benchText makes a message's event about as long as a chat's are.
var benchText = strings.Repeat("x", 200)

// talk lets one member speak in each stream at times that are set beforehand,
// whether or not answers have come. A message's nonce is the time when it was due.
func (b *benchChat) talk(ctx context.Context, nodes []*benchProcess, streams []uuid.UUID, rate int) (int64, error) {
	const speakers = 4 // of one stream, so that one connection is not the limit
	var (
		running sync.WaitGroup
		sent    atomic.Int64
		failed  atomic.Int64
	)
	ctx, cancel := context.WithTimeout(ctx, b.Duration+15*time.Second)
	defer cancel()
	began := time.Now().Add(2 * time.Second)
	for i, stream := range streams {
		owner := b.owners[i]
		if len(streams) == 1 {
			owner = b.owners[len(b.owners)-1]
		}
		for s := range min(speakers, rate) {
			node := nodes[(i+s)%len(nodes)].address
			client, err := chat.New(chat.Config{Address: func(ctx context.Context) (string, error) {
				if len(nodes) == 1 {
					return "ws://" + node + "/ws/" + stream.String() + "?speaker=1", nil
				}
				ticket, err := b.tickets.Issue(ctx, livestream.Ticket{
					Purpose: livestream.TicketChat, StreamID: stream, Identity: livestream.Identity{UserID: owner.ID, Role: owner.Role, FamilyID: owner.ID},
				})
				return "ws://" + node + "/ws/streams/" + stream.String() + "/chat?ticket=" + url.QueryEscape(ticket), err
			}})
			if err != nil {
				return 0, err
			}
			life, hangUp := context.WithCancel(ctx)
			go func() { _ = client.Run(life) }()
			running.Go(func() {
				defer hangUp()
				var messages sync.WaitGroup
				every := time.Second * time.Duration(min(speakers, rate)) / time.Duration(rate)
				first := began.Add(every * time.Duration(s) / speakers).Add(every * time.Duration(i) / time.Duration(len(streams)))
				for due := first; due.Before(began.Add(b.Duration)); due = due.Add(every) {
					time.Sleep(time.Until(due))
					messages.Go(func() {
						if err := client.SendNonce(ctx, benchText, strconv.FormatInt(due.UnixNano(), 10)); err != nil {
							if failed.Add(1) == 1 {
								fmt.Println("a message was not taken:", err)
							}
							return
						}
						sent.Add(1)
					})
				}
				messages.Wait()
			})
		}
	}
	running.Wait()
	if n := failed.Load(); n > 0 {
		fmt.Println(n, "messages were not taken")
	}
	return sent.Load(), nil
}
