package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// generatorOrders are where a generator connects to, and from which address.
type generatorOrders struct {
	Source  string            `json:"source"`
	Targets []generatorTarget `json:"targets"`
}

type generatorTarget struct {
	Address string `json:"address"`
	Path    string `json:"path"`
}

// generatorReport is what viewers got since they were asked last.
type generatorReport struct {
	Deliveries int64     `json:"deliveries"`
	Lost       int64     `json:"lost"`
	Doubled    int64     `json:"doubled"`
	Times      histogram `json:"times"`
}

// histogram counts times in steps of about 3 %.
type histogram [64 * 32]int64

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 32))
	top := bits.Len64(n) - 6
	return top*32 + int(n>>top)&31
}

func (h *histogram) add(other histogram) {
	for i, n := range other {
		h[i] += n
	}
}

// at is a quantile, in milliseconds.
func (h *histogram) at(q float64) float64 {
	var all int64
	for _, n := range h {
		all += n
	}
	left := max(int64(q*float64(all)), 1)
	for i, n := range h {
		if left -= n; n > 0 && left <= 0 {
			top := i / 32
			return float64(uint64(32+i%32)<<top) / 1e6
		}
	}
	return 0
}

// viewerCounts is what the viewers of this process have got.
type viewerCounts struct {
	deliveries, lost, doubled atomic.Int64
	times                     [64 * 32]atomic.Int64
}

func (c *viewerCounts) report() (r generatorReport) {
	r.Deliveries, r.Lost, r.Doubled = c.deliveries.Swap(0), c.lost.Swap(0), c.doubled.Swap(0)
	for i := range c.times {
		r.Times[i] = c.times[i].Swap(0)
	}
	return r
}

// generatorCmd is viewers in a process of their own. It is told what to do on its
// standard input, and answers on its standard output.
type generatorCmd struct {
	Number int `arg:""`
}

// Run obeys until its input ends.
func (c *generatorCmd) Run() error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	if !in.Scan() {
		return in.Err()
	}
	var orders generatorOrders
	if err := json.Unmarshal(in.Bytes(), &orders); err != nil {
		return err
	}
	fmt.Println("ready")
	var counts viewerCounts
	for in.Scan() {
		switch in.Text() {
		case "connect":
			connected := make(chan string, 2)
			go func() {
				err := counts.watch(orders, func(n int) { connected <- strconv.Itoa(n) })
				fmt.Fprintln(os.Stderr, "a generator:", err)
				connected <- err.Error()
			}()
			fmt.Println(<-connected)
		case "reset":
			counts.report()
			fmt.Println("ok")
		case "report":
			content, err := json.Marshal(counts.report())
			if err != nil {
				return err
			}
			fmt.Println(string(content))
		}
	}
	return in.Err()
}

// frameIn gives the first frame in what was read; size is 0 when not even its
// header is there.
func frameIn(b []byte) (op byte, payload []byte, size int) {
	if len(b) < 2 {
		return 0, nil, 0
	}
	header, length := 2, int(b[1]&0x7f)
	switch length {
	case 126:
		header = 4
		if len(b) < header {
			return 0, nil, 0
		}
		length = int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		header = 10
		if len(b) < header {
			return 0, nil, 0
		}
		length = int(binary.BigEndian.Uint64(b[2:]))
	}
	size = header + length
	if len(b) >= size {
		payload = b[header:size]
	}
	return b[0] & 0x0f, payload, size
}

var (
	idField    = []byte(`{"id":`)
	nonceField = []byte(`"nonce":"`)
	fromField  = []byte(`"resume_from":`)
)

func numberAt(b []byte) (n int64) {
	for _, digit := range b {
		if digit < '0' || digit > '9' {
			return n
		}
		n = 10*n + int64(digit-'0')
	}
	return n
}
