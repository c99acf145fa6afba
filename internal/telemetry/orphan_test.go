package telemetry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
)

// Another process may look the next day: what this one found must not stay for ever.
func TestOrphansAreShownForADay(t *testing.T) {
	t.Parallel()
	registry, now := prometheus.NewRegistry(), time.Now()
	orphans, err := telemetry.NewOrphans(registry, func() time.Time { return now })
	require.NoError(t, err)
	orphans.Set(livestream.Orphans{Area: livestream.AreaWork, Count: 9, SizeBytes: 90})
	now = now.Add(2 * time.Hour)
	orphans.Set(livestream.Orphans{Area: livestream.AreaArchives, Count: 2, SizeBytes: 30})
	orphans.Set(livestream.Orphans{Area: livestream.AreaArchives, Count: 3, SizeBytes: 40})
	now = now.Add(23*time.Hour + time.Minute)
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP storage_orphan_bytes What they have.
# TYPE storage_orphan_bytes gauge
storage_orphan_bytes{area="archives"} 40
# HELP storage_orphans Archives and recordings in the bucket that belong to nobody, by area.
# TYPE storage_orphans gauge
storage_orphans{area="archives"} 3
`)))
}
