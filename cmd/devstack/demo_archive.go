package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/livestream-pro/livestream-pro/internal/client"
)

func (d *demo) upload(ctx context.Context) (string, error) {
	var upload struct {
		UploadID string `json:"upload_id"`
		PartSize int64  `json:"part_size"`
		Parts    []struct {
			PartNumber int    `json:"part_number"`
			URL        string `json:"url"`
		} `json:"parts"`
		CompleteURL string `json:"complete_url"`
	}
	path := "/api/streams/" + d.stream.ID + "/recording"
	in := map[string]any{"content_type": "video/mp4", "size_bytes": d.recordingSizeBytes}
	if err := d.ada.Do(ctx, "POST", path, in, &upload); err != nil {
		return "", err
	}
	file, err := os.Open(d.recording)
	if err != nil {
		return "", err
	}
	defer file.Close()
	type part struct {
		PartNumber int    `json:"part_number"`
		ETag       string `json:"etag"`
	}
	var parts []part
	for _, p := range upload.Parts {
		content, err := io.ReadAll(io.LimitReader(file, upload.PartSize))
		if err != nil {
			return "", err
		}
		etag, err := put(ctx, p.URL, content)
		if err != nil {
			return "", fmt.Errorf("part %d: %w", p.PartNumber, err)
		}
		parts = append(parts, part{p.PartNumber, etag})
	}
	complete, err := url.Parse(upload.CompleteURL)
	if err != nil {
		return "", err
	}
	var done struct {
		ArchiveID string `json:"archive_id"`
	}
	if err := d.ada.Do(ctx, "POST", complete.Path, map[string]any{"parts": parts}, &done); err != nil {
		return "", err
	}
	d.archiveID = done.ArchiveID
	d.workflows = append(d.workflows, "archive/"+d.archiveID)
	return fmt.Sprintf("%d part(s); its archive is %s", len(parts), d.archiveID), nil
}

// put uploads one part to object storage and gives its ETag.
func put(ctx context.Context, address string, content []byte) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, address, bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(io.LimitReader(response.Body, 500))
		return "", fmt.Errorf("the store answered %s: %s", response.Status, answer)
	}
	return response.Header.Get("ETag"), nil
}

type archiveView struct {
	Status          string  `json:"status"`
	Progress        float64 `json:"progress"`
	DurationSeconds float64 `json:"duration_seconds"`
	SizeBytes       int64   `json:"size_bytes"`
	PlaybackURL     string  `json:"playback_url"`
	ThumbnailURL    string  `json:"thumbnail_url"`
	Renditions      []struct {
		Name string `json:"name"`
	} `json:"renditions"`
	Failure *struct{ Code, Message string } `json:"failure"`
}

func (d *demo) archive(ctx context.Context) (string, error) {
	var archive archiveView
	shown := -1
	err := until(ctx, d.patience, func() (bool, error) {
		if err := d.ada.Do(ctx, "GET", "/api/archives/"+d.archiveID, nil, &archive); err != nil {
			return false, err
		}
		if percent := int(100 * archive.Progress); percent != shown {
			shown = percent
			fmt.Printf("      %3d %%  %s\n", shown, archive.Status)
		}
		if archive.Status == "failed" {
			return false, fmt.Errorf("it failed: %s", archive.Failure.Message)
		}
		return archive.Status == "ready", nil
	})
	if err != nil {
		return "", err
	}
	names := make([]string, len(archive.Renditions))
	for i, rendition := range archive.Renditions {
		names[i] = rendition.Name
	}
	return fmt.Sprintf("%.1f s in %s, %.1f MB", archive.DurationSeconds, strings.Join(names, ", "), float64(archive.SizeBytes)/1e6), nil
}

// play lets ffprobe read the playlists over HTTP, as a player would.
func (d *demo) play(ctx context.Context) (string, error) {
	var archive archiveView
	if err := d.ada.Do(ctx, "GET", "/api/archives/"+d.archiveID, nil, &archive); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	probe := exec.CommandContext(ctx, "ffprobe", "-v", "error", "-of", "json", "-show_entries", "stream=codec_type,codec_name,width,height:format=duration", archive.PlaybackURL)
	var complaint bytes.Buffer
	probe.Stderr = &complaint
	out, err := probe.Output()
	if err != nil {
		return "", fmt.Errorf("ffprobe %s: %w: %s", archive.PlaybackURL, err, complaint.String())
	}
	var probed struct {
		Streams []struct {
			CodecType string `json:"codec_type"`
			CodecName string `json:"codec_name"`
			Height    int    `json:"height"`
		} `json:"streams"`
		Format struct{ Duration string } `json:"format"`
	}
	if err := json.Unmarshal(out, &probed); err != nil {
		return "", err
	}
	var pictures []string
	sound := ""
	for _, s := range probed.Streams {
		switch s.CodecType {
		case "video":
			pictures = append(pictures, fmt.Sprintf("%s %dp", s.CodecName, s.Height))
		case "audio":
			sound = s.CodecName
		}
	}
	if len(pictures) == 0 || sound == "" {
		return "", fmt.Errorf("the archive lacks picture or sound: %s", out)
	}
	duration, err := strconv.ParseFloat(probed.Format.Duration, 64)
	if err != nil {
		return "", fmt.Errorf("the archive's duration: %w", err)
	}
	if math.Abs(duration-float64(d.seconds)) > 0.5 {
		return "", fmt.Errorf("the archive lasts %.1f s, its recording %d s", duration, d.seconds)
	}
	return fmt.Sprintf("%s and %s, %.1f s, at %s", strings.Join(pictures, ", "), sound, duration, archive.PlaybackURL), nil
}

func (d *demo) timeline(ctx context.Context) (string, error) {
	var out struct {
		Data []struct {
			Seq  int64  `json:"seq"`
			Type string `json:"type"`
		} `json:"data"`
	}
	if err := d.ada.Do(ctx, "GET", "/api/streams/"+d.stream.ID+"/timeline?limit=100", nil, &out); err != nil {
		return "", err
	}
	var types []string
	for i, event := range out.Data {
		if event.Seq != int64(i+1) {
			return "", fmt.Errorf("event %d has seq %d", i+1, event.Seq)
		}
		types = append(types, event.Type)
	}
	return strings.Join(types, " → "), nil
}

// dial opens a WebSocket with a ticket; node overrides the chat node that the
// API chose.
func (d *demo) dial(ctx context.Context, m member, purpose, node string) (*client.Socket, error) {
	in := map[string]any{"purpose": purpose}
	if purpose == "chat" {
		in["stream_id"] = d.stream.ID
	}
	var ticket struct {
		URL string `json:"url"`
	}
	if err := m.Do(ctx, "POST", "/api/ws-tickets", in, &ticket); err != nil {
		return nil, err
	}
	if node != "" {
		address, err := url.Parse(ticket.URL)
		if err != nil {
			return nil, err
		}
		ticket.URL = node + address.RequestURI()
	}
	socket, err := client.Dial(ctx, ticket.URL)
	if err != nil {
		return nil, err
	}
	if _, err := d.await(ctx, socket, "welcome"); err != nil {
		return nil, err
	}
	return socket, nil
}

// await reads events until one of that type comes.
func (d *demo) await(ctx context.Context, socket *client.Socket, kind string) (client.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		event, err := socket.Next(ctx)
		if err != nil {
			return event, fmt.Errorf("wait for %s: %w", kind, err)
		}
		if event.Type == kind {
			return event, nil
		}
	}
}

func (d *demo) hangUp() {
	for _, socket := range []*client.Socket{d.adaChat, d.bobChat, d.bobNotifications} {
		if socket != nil {
			_ = socket.Close()
		}
	}
}
