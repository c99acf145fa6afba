package telemetry

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Orphans show what the last look through the bucket found that belongs to nobody.
type Orphans struct {
	count, bytes *prometheus.GaugeVec
}

// NewOrphans registers the metrics.
func NewOrphans(registry prometheus.Registerer) (*Orphans, error) {
	o := &Orphans{
		count: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "storage_orphans", Help: "Archives and recordings in the bucket that belong to nobody, by area."}, []string{"area"}),
		bytes: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "storage_orphan_bytes", Help: "What they have."}, []string{"area"}),
	}
	if err := errors.Join(registry.Register(o.count), registry.Register(o.bytes)); err != nil {
		return nil, fmt.Errorf("register the orphans' metrics: %w", err)
	}
	return o, nil
}

// Set shows what was found in an area.
func (o *Orphans) Set(found livestream.Orphans) {
	o.count.WithLabelValues(string(found.Area)).Set(float64(found.Count))
	o.bytes.WithLabelValues(string(found.Area)).Set(float64(found.SizeBytes))
}
