package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
)

// benchProcess is a node or a generator.
type benchProcess struct {
	command *exec.Cmd
	address string
	in      *bufio.Writer
	out     *bufio.Scanner
}

func (p *benchProcess) tell(line string) error {
	_, err := fmt.Fprintln(p.in, line)
	return errors.Join(err, p.in.Flush())
}

func (p *benchProcess) hear() (string, error) {
	if !p.out.Scan() {
		return "", errors.New("a generator ended")
	}
	return p.out.Text(), nil
}

func stopAll(processes []*benchProcess) {
	for _, p := range processes {
		_ = p.command.Process.Kill() // it may have ended
		_ = p.command.Wait()
	}
}

func addressesOf(nodes []*benchProcess) (list []string) {
	for _, n := range nodes {
		list = append(list, n.address)
	}
	return list
}

func (b *benchChat) startNodes(ctx context.Context) (nodes []*benchProcess, err error) {
	for range b.Nodes {
		address, err := devstack.FreeAddress(ctx)
		if err != nil {
			return nodes, err
		}
		command := exec.CommandContext(ctx, b.binary, "chat")
		command.Env = append(os.Environ(), "LISTEN="+address, "LIMITS=load", "LOG_LEVEL=error", "DATABASE_URL="+b.env.DatabaseURL, "REDIS_URL="+b.env.RedisURL)
		command.Stderr = os.Stderr
		if err := command.Start(); err != nil {
			return nodes, err
		}
		nodes = append(nodes, &benchProcess{command: command, address: address})
	}
	return nodes, awaitHealth(ctx, addressesOf(nodes))
}

func startMelody(ctx context.Context) (*benchProcess, error) {
	address, err := devstack.FreeAddress(ctx)
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, os.Args[0], "bench-chat-melody", address)
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return nil, err
	}
	return &benchProcess{command: command, address: address}, awaitHealth(ctx, []string{address})
}

func awaitHealth(ctx context.Context, addresses []string) error {
	deadline := time.Now().Add(30 * time.Second)
	for _, address := range addresses {
		for {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/health", nil)
			if err != nil {
				return err
			}
			response, err := http.DefaultClient.Do(request)
			if err == nil {
				response.Body.Close()
				break
			}
			if time.Now().After(deadline) {
				return err
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}

// startGenerators spreads the viewers of each stream over the generators, and those
// over the nodes.
func (b *benchChat) startGenerators(ctx context.Context, addresses []string, streams []uuid.UUID, viewers int, path string) (list []*benchProcess, err error) {
	for i := range b.Nodes {
		command := exec.CommandContext(ctx, os.Args[0], "bench-chat-generator", strconv.Itoa(i))
		command.Stderr = os.Stderr
		in, err := command.StdinPipe()
		if err != nil {
			return list, err
		}
		out, err := command.StdoutPipe()
		if err != nil {
			return list, err
		}
		if err := command.Start(); err != nil {
			return list, err
		}
		g := &benchProcess{command: command, in: bufio.NewWriter(in), out: bufio.NewScanner(out)}
		g.out.Buffer(nil, 1<<20)
		list = append(list, g)
		orders := generatorOrders{Source: fmt.Sprintf("127.0.0.%d", 10+i)}
		for s, stream := range streams {
			for v := range viewers {
				if v%b.Nodes == i {
					orders.Targets = append(orders.Targets, generatorTarget{
						Address: addresses[(v+s)%len(addresses)], Path: fmt.Sprintf(path, stream),
					})
				}
			}
		}
		// Viewers come to all streams at the same time.
		rand.Shuffle(len(orders.Targets), func(i, j int) { orders.Targets[i], orders.Targets[j] = orders.Targets[j], orders.Targets[i] })
		content, err := json.Marshal(orders)
		if err != nil {
			return list, err
		}
		if err := g.tell(string(content)); err != nil {
			return list, err
		}
	}
	return list, nil
}

// connectAll has all generators connect at once.
func connectAll(generators []*benchProcess) (joined int, took time.Duration, err error) {
	for _, g := range generators {
		if _, err := g.hear(); err != nil { // it is ready
			return 0, 0, err
		}
	}
	began := time.Now()
	for _, g := range generators {
		if err := g.tell("connect"); err != nil {
			return 0, 0, err
		}
	}
	for _, g := range generators {
		line, err := g.hear()
		if err != nil {
			return joined, 0, err
		}
		n, err := strconv.Atoi(line)
		if err != nil {
			return joined, 0, fmt.Errorf("a generator says: %s", line)
		}
		joined += n
	}
	return joined, time.Since(began), nil
}

// usage is what processes have used.
type usage struct {
	rss, goroutines int64
	cpu             time.Duration
}

// tick is the unit of the times in /proc.
const tick = 10 * time.Millisecond

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)`)

func usageOf(ctx context.Context, processes []*benchProcess) (all usage) {
	for _, p := range processes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
		for _, i := range []int{11, 12} { // user and system time
			n, _ := strconv.ParseInt(fields[i], 10, 64)
			all.cpu += time.Duration(n) * tick
		}
		pages, _ := strconv.ParseInt(fields[21], 10, 64)
		all.rss += pages * int64(os.Getpagesize())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/metrics", nil)
		if err != nil {
			continue
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			continue
		}
		scanner := bufio.NewScanner(response.Body)
		for scanner.Scan() {
			if m := goroutines.FindStringSubmatch(scanner.Text()); m != nil {
				n, _ := strconv.ParseInt(m[1], 10, 64)
				all.goroutines += n
			}
		}
		response.Body.Close()
	}
	return all
}
