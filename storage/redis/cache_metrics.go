package redis

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

type cacheMetrics struct {
	reads, loads, errors, invalidations *prometheus.CounterVec
	owed                                prometheus.GaugeFunc
}

func newCacheMetrics(debts *debts) cacheMetrics {
	return cacheMetrics{
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cache_reads_total",
			Help: "Reads, by kind of entry and by result: near (a copy in this process), hit, negative (known to be missing), miss, away (Redis is not used at the moment), primary (passed by). The hit rate is (near + hit + negative) / (near + hit + negative + miss + away).",
		}, []string{"kind", "result"}),
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cache_loads_total", Help: "Loads from the database, by kind of entry.",
		}, []string{"kind"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cache_errors_total", Help: "Calls to Redis that failed, by kind of entry.",
		}, []string{"kind"}),
		invalidations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cache_invalidations_total", Help: "Entries that a write invalidated, by kind.",
		}, []string{"kind"}),
		owed: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "cache_invalidations_owed", Help: "Invalidations that wait for Redis to come back.",
		}, func() float64 { return float64(debts.count()) }),
	}
}

func (m cacheMetrics) count(entries []CacheEntry, result string) {
	for _, entry := range entries {
		m.reads.WithLabelValues(entry.Kind, result).Inc()
	}
}

func (m cacheMetrics) countFound(entries []CacheEntry, f found) {
	for i, entry := range entries {
		result := "hit"
		switch {
		case strings.HasPrefix(f.copies[0], isNotThere):
			result = "negative"
		case f.copies[i] == "":
			result = "miss"
		}
		m.reads.WithLabelValues(entry.Kind, result).Inc()
	}
}

func (m cacheMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.reads, m.loads, m.errors, m.invalidations, m.owed}
}

// Describe makes the cache a prometheus.Collector.
func (c *Cache) Describe(out chan<- *prometheus.Desc) {
	for _, metric := range c.metrics.all() {
		metric.Describe(out)
	}
}

// Collect gives the cache's figures.
func (c *Cache) Collect(out chan<- prometheus.Metric) {
	for _, metric := range c.metrics.all() {
		metric.Collect(out)
	}
}
