package telemetry

import (
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Differences counts what the books and Stripe did not agree on.
type Differences struct{ total *prometheus.CounterVec }

// NewDifferences registers the metric.
func NewDifferences(registry prometheus.Registerer) (*Differences, error) {
	d := &Differences{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "payment_differences_total",
		Help: "Differences between the books and Stripe that reconciliation found, by kind, and whether it healed them. Any that is not healed needs a person.",
	}, []string{"kind", "healed"})}
	if err := registry.Register(d.total); err != nil {
		return nil, fmt.Errorf("register the differences' metric: %w", err)
	}
	return d, nil
}

// Count counts one.
func (d *Differences) Count(difference livestream.Difference) {
	d.total.WithLabelValues(string(difference.Kind), strconv.FormatBool(difference.Healed)).Inc()
}
