package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/livestream-pro/livestream-pro/internal/client"
	"github.com/livestream-pro/livestream-pro/internal/devstack"
	"github.com/livestream-pro/livestream-pro/internal/ffmpeg"
)

type demoCmd struct {
	stackFlags
	Seconds int `default:"20" help:"Length of the recording that is made and archived, in seconds."`
}

// demoTimeout bounds the whole walk; the archive is most of it.
const demoTimeout = 10 * time.Minute

// Run walks through the main job on the running stack, or on one of its own.
func (c *demoCmd) Run(ctx context.Context) error {
	ctx, env, stop, err := c.running(ctx)
	if err != nil {
		return err
	}
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	d := &demo{env: env, seconds: c.Seconds, began: time.Now(), patience: 5 * time.Minute}
	if err := d.walk(ctx); err != nil {
		return fmt.Errorf("the demo stopped: %w", err)
	}
	fmt.Printf("\nAll of it worked, in %s.\n", time.Since(d.began).Round(time.Second))
	return nil
}

// demo is the story: ada streams, bob follows, watches, chats and tips.
type demo struct {
	env     devstack.Env
	seconds int
	began   time.Time

	ada, bob           member
	adaChat, bobChat   *client.Socket
	bobNotifications   *client.Socket
	stream             streamView
	transactionID      string
	archiveID          string
	workflows          []string
	dir                string
	recording          string
	recordingSizeBytes int64
	patience           time.Duration // with the archive
}

type member struct {
	*client.Client
	id, name string
}

type streamView struct {
	ID          string `json:"id"`
	Title       string `json:"title"`
	Status      string `json:"status"`
	WorkflowID  string `json:"workflow_id"`
	ChatURL     string `json:"chat_url"`
	ViewerCount int64  `json:"viewer_count"`
}

func (d *demo) walk(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "livestream-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the recording: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d.dir = dir
	defer d.hangUp()
	steps := []struct {
		what string
		do   func(context.Context) (string, error)
	}{
		{"two members register", d.register},
		{"bob follows ada", d.follow},
		{"ada goes live", d.start},
		{"bob's notification arrives over the WebSocket", d.notified},
		{"both chat, each on another chat node", d.chat},
		{"bob tips, and the chat shows it", d.tip},
		{"the stream ends", d.end},
		{"FFmpeg makes the recording", d.record},
		{"the recording is uploaded by presigned parts", d.upload},
		{"the archive is made", d.archive},
		{"the archive plays", d.play},
		{"the timeline has everything", d.timeline},
	}
	for i, step := range steps {
		began := time.Now()
		fmt.Printf("%2d. %s\n", i+1, step.what)
		result, err := step.do(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Printf("      %s  (%s)\n", result, time.Since(began).Round(time.Millisecond))
	}
	fmt.Println("\nLook at the workflows behind it:")
	for _, id := range d.workflows {
		fmt.Println("  ", devstack.WorkflowURL(d.env, id))
	}
	return nil
}

func (d *demo) register(ctx context.Context) (string, error) {
	for _, m := range []struct {
		member *member
		name   string
	}{{&d.ada, "ada"}, {&d.bob, "bob"}} {
		name := m.name + "_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:8]
		var out struct {
			User        struct{ ID string } `json:"user"`
			AccessToken string              `json:"access_token"`
		}
		in := map[string]any{"username": name, "email": name + "@example.com", "password": "correct horse battery", "display_name": m.name}
		if err := client.New(d.env.APIURL).Do(ctx, "POST", "/api/auth/register", in, &out); err != nil {
			return "", err
		}
		*m.member = member{Client: client.New(d.env.APIURL).WithToken(out.AccessToken), id: out.User.ID, name: name}
	}
	return d.ada.name + " and " + d.bob.name, nil
}

func (d *demo) follow(ctx context.Context) (string, error) {
	if err := d.bob.Do(ctx, "PUT", "/api/users/"+d.ada.id+"/follow", nil, nil); err != nil {
		return "", err
	}
	socket, err := d.dial(ctx, d.bob, "notifications", "")
	if err != nil {
		return "", err
	}
	d.bobNotifications = socket
	return "and listens for notifications", nil
}

func (d *demo) start(ctx context.Context) (string, error) {
	in := map[string]any{"title": "Live from the workshop", "category": "making", "tags": []string{"demo"}}
	if err := d.ada.Do(ctx, "POST", "/api/streams", in, &d.stream); err != nil {
		return "", err
	}
	if d.stream.Status != "live" {
		return "", fmt.Errorf("the stream is %s, not live", d.stream.Status)
	}
	d.workflows = append(d.workflows, d.stream.WorkflowID, "notify/"+d.stream.ID)
	return "«" + d.stream.Title + "» is live: " + d.stream.ID, nil
}

func (d *demo) notified(ctx context.Context) (string, error) {
	event, err := d.await(ctx, d.bobNotifications, "notification")
	if err != nil {
		return "", err
	}
	var body struct {
		Notification struct {
			Type string            `json:"type"`
			Data map[string]string `json:"data"`
		} `json:"notification"`
	}
	if err := event.Decode(&body); err != nil {
		return "", err
	}
	if body.Notification.Data["stream_id"] != d.stream.ID {
		return "", fmt.Errorf("it tells of another stream: %s", event.JSON)
	}
	return fmt.Sprintf("%s: %s is live with «%s»", body.Notification.Type, body.Notification.Data["username"], body.Notification.Data["title"]), nil
}

func (d *demo) chat(ctx context.Context) (string, error) {
	var err error
	if d.adaChat, err = d.dial(ctx, d.ada, "chat", d.env.ChatURLs[0]); err != nil {
		return "", err
	}
	if d.bobChat, err = d.dial(ctx, d.bob, "chat", d.env.ChatURLs[len(d.env.ChatURLs)-1]); err != nil {
		return "", err
	}
	if err := d.say(ctx, d.adaChat, d.bobChat, "welcome, everybody"); err != nil {
		return "", err
	}
	if err := d.say(ctx, d.bobChat, d.adaChat, "glad to be here"); err != nil {
		return "", err
	}
	return "ada: welcome, everybody · bob: glad to be here", nil
}

// say writes on one socket and waits until the other one has read it.
func (d *demo) say(ctx context.Context, from, to *client.Socket, text string) error {
	if err := from.Send(ctx, map[string]any{"type": "message", "text": text, "nonce": uuid.NewString()}); err != nil {
		return err
	}
	for {
		event, err := d.await(ctx, to, "message")
		if err != nil {
			return err
		}
		var body struct{ Text string }
		if err := event.Decode(&body); err != nil {
			return err
		}
		if body.Text == text {
			return nil
		}
	}
}

func (d *demo) tip(ctx context.Context) (string, error) {
	in := map[string]any{
		"stream_id": d.stream.ID, "kind": "tip", "amount": 500, "currency": "usd",
		"message": "for the coffee", "payment_method": "pm_card_visa",
	}
	var paid struct {
		ID         string `json:"id"`
		Status     string `json:"status"`
		WorkflowID string `json:"workflow_id"`
	}
	if err := d.bob.Do(ctx, "POST", "/api/transactions", in, &paid, "Idempotency-Key", uuid.NewString()); err != nil {
		return "", err
	}
	d.transactionID = paid.ID
	d.workflows = append(d.workflows, paid.WorkflowID)
	event, err := d.await(ctx, d.adaChat, "tip")
	if err != nil {
		return "", err
	}
	var shown struct {
		Amount   int64
		Currency string
		Message  string
		User     struct{ Username string }
	}
	if err := event.Decode(&shown); err != nil {
		return "", err
	}
	if shown.Amount != 500 || shown.User.Username != d.bob.name {
		return "", fmt.Errorf("the chat shows another tip: %s", event.JSON)
	}
	if err := d.bob.Do(ctx, "GET", "/api/transactions/"+d.transactionID, nil, &paid); err != nil {
		return "", err
	}
	if paid.Status != "succeeded" {
		return "", fmt.Errorf("the payment is %s, not succeeded", paid.Status)
	}
	return fmt.Sprintf("%s gave %.2f %s: %s", shown.User.Username, float64(shown.Amount)/100, shown.Currency, shown.Message), nil
}

func (d *demo) end(ctx context.Context) (string, error) {
	if err := d.ada.Do(ctx, "POST", "/api/streams/"+d.stream.ID+"/end", nil, nil); err != nil {
		return "", err
	}
	err := until(ctx, 30*time.Second, func() (bool, error) {
		err := d.ada.Do(ctx, "GET", "/api/streams/"+d.stream.ID, nil, &d.stream)
		return d.stream.Status == "ended", err
	})
	return "it is " + d.stream.Status, err
}

func (d *demo) record(ctx context.Context) (string, error) {
	tool, err := ffmpeg.New(ffmpeg.Config{})
	if err != nil {
		return "", err
	}
	d.recording = filepath.Join(d.dir, "recording.mp4")
	err = tool.Generate(ctx, d.recording, ffmpeg.GenerateOptions{Seconds: float64(d.seconds), Width: 1280, Height: 720, FPS: "30"})
	if err != nil {
		return "", err
	}
	info, err := os.Stat(d.recording)
	if err != nil {
		return "", err
	}
	d.recordingSizeBytes = info.Size()
	return fmt.Sprintf("%d s of 720p30 with sound, %.1f MB", d.seconds, float64(info.Size())/1e6), nil
}

// until polls a condition, with a deadline.
func until(ctx context.Context, limit time.Duration, condition func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := condition()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
				return cause
			}
			return fmt.Errorf("it did not happen within %s", limit)
		case <-tick.C:
		}
	}
}
