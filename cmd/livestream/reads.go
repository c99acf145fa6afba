package main

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// reads shows where reads went, and how the replicas are.
type reads struct {
	stats func() postgres.ReadStats

	total, fallbacks, inRotation, lag *prometheus.Desc
}

func newReads(stats func() postgres.ReadStats) *reads {
	return &reads{
		stats:      stats,
		total:      prometheus.NewDesc("db_reads_total", "Reads that a replica may answer, by who did: primary or replica-N.", []string{"target"}, nil),
		fallbacks:  prometheus.NewDesc("db_read_fallbacks_total", "Reads that the primary answered for a replica, by the reason: down, lag, or behind the reader's own write.", []string{"reason"}, nil),
		inRotation: prometheus.NewDesc("db_replica_in_rotation", "1 while the replica is read from.", []string{"target"}, nil),
		lag:        prometheus.NewDesc("db_replica_lag_seconds", "How far the replica is behind the primary; it grows while the replica is down.", []string{"target"}, nil),
	}
}

func (r *reads) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{r.total, r.fallbacks, r.inRotation, r.lag} {
		out <- desc
	}
}

func (r *reads) Collect(out chan<- prometheus.Metric) {
	stats := r.stats()
	counter := func(desc *prometheus.Desc, n int64, label string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), label)
	}
	counter(r.total, stats.Primary, "primary")
	counter(r.fallbacks, stats.Fallbacks.Down, "down")
	counter(r.fallbacks, stats.Fallbacks.Lag, "lag")
	counter(r.fallbacks, stats.Fallbacks.Behind, "behind")
	for i, replica := range stats.Replicas {
		target := "replica-" + strconv.Itoa(i+1)
		counter(r.total, replica.Reads, target)
		in := 0.0
		if replica.InRotation {
			in = 1
		}
		out <- prometheus.MustNewConstMetric(r.inRotation, prometheus.GaugeValue, in, target)
		out <- prometheus.MustNewConstMetric(r.lag, prometheus.GaugeValue, replica.Lag.Seconds(), target)
	}
}
