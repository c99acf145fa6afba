package telemetry

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	livestream "github.com/livestream-pro/livestream-pro"
)

// orphansKept is how long a process shows what it found: each day another one may look.
const orphansKept = 25 * time.Hour

var (
	orphanCount = prometheus.NewDesc("storage_orphans", "Archives and recordings in the bucket that belong to nobody, by area.", []string{"area"}, nil)
	orphanBytes = prometheus.NewDesc("storage_orphan_bytes", "What they have.", []string{"area"}, nil)
)

// Orphans show what this process's last look through the bucket found that belongs to
// nobody. It is a prometheus.Collector.
type Orphans struct {
	now   func() time.Time
	mu    sync.Mutex
	areas map[livestream.OrphanArea]seenOrphans
}

type seenOrphans struct {
	found livestream.Orphans
	at    time.Time
}

// NewOrphans registers the metrics.
func NewOrphans(registry prometheus.Registerer, now func() time.Time) (*Orphans, error) {
	o := &Orphans{now: now, areas: map[livestream.OrphanArea]seenOrphans{}}
	if err := registry.Register(o); err != nil {
		return nil, fmt.Errorf("register the orphans' metrics: %w", err)
	}
	return o, nil
}

// Set shows what was found in an area.
func (o *Orphans) Set(found livestream.Orphans) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.areas[found.Area] = seenOrphans{found, o.now()}
}

// Describe says which metrics there are.
func (o *Orphans) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- orphanCount
	descriptions <- orphanBytes
}

// Collect gives them, but for what is old.
func (o *Orphans) Collect(metrics chan<- prometheus.Metric) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for area, seen := range o.areas {
		if o.now().Sub(seen.at) < orphansKept {
			metrics <- prometheus.MustNewConstMetric(orphanCount, prometheus.GaugeValue, float64(seen.found.Count), string(area))
			metrics <- prometheus.MustNewConstMetric(orphanBytes, prometheus.GaugeValue, float64(seen.found.SizeBytes), string(area))
		}
	}
}
