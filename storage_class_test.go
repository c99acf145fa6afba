package livestream_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
)

func TestTierOf(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	rules := livestream.TierRules{PopularViews: 10, IntelligentAfter: 30 * day, GlacierAfter: 90 * day}
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	for name, c := range map[string]struct {
		age      time.Duration
		restored *time.Time
		views    int64
		class    livestream.StorageClass
		want     livestream.StorageClass
	}{
		"young":                         {30*day - 1, nil, 0, livestream.StorageStandard, livestream.StorageStandard},
		"a month old":                   {30 * day, nil, 9, livestream.StorageStandard, livestream.StorageIntelligent},
		"a month old and popular":       {30 * day, nil, 10, livestream.StorageStandard, livestream.StorageStandard},
		"nearly three months old":       {90*day - 1, nil, 0, livestream.StorageIntelligent, livestream.StorageIntelligent},
		"three months old":              {90 * day, nil, 9, livestream.StorageIntelligent, livestream.StorageGlacier},
		"old and never moved":           {900 * day, nil, 0, livestream.StorageStandard, livestream.StorageGlacier},
		"old and popular":               {900 * day, nil, 10, livestream.StorageStandard, livestream.StorageStandard},
		"watched again":                 {60 * day, nil, 10, livestream.StorageIntelligent, livestream.StorageStandard},
		"in glacier, whatever is asked": {60 * day, nil, 1000, livestream.StorageGlacier, livestream.StorageGlacier},
		"restored a week ago":           {900 * day, ago(7 * day), 0, livestream.StorageStandard, livestream.StorageStandard},
		"restored a month ago":          {900 * day, ago(30 * day), 0, livestream.StorageStandard, livestream.StorageIntelligent},
		"restored three months ago":     {900 * day, ago(90 * day), 0, livestream.StorageIntelligent, livestream.StorageGlacier},
	} {
		got := rules.TierOf(livestream.TieredArchive{ReadyAt: now.Add(-c.age), RestoredAt: c.restored, Views: c.views, Class: c.class}, now)
		require.Equal(t, c.want, got, name)
	}
}

func TestWhatAMoveSaves(t *testing.T) {
	t.Parallel()
	// An hour in three qualities, with its sound: 901 files of each.
	archive := livestream.TieredArchive{Seconds: 3600, SizeBytes: 10e9, Renditions: 3}
	require.EqualValues(t, 4*901, archive.Files())
	prices := livestream.StoragePrices{Standard: 0.02, Intelligent: 0.01, Glacier: 0.004, Monitoring: 0.0025, Copy: 0.005, GlacierCopy: 0.03}
	require.InDelta(t, 0.2, prices.Month(livestream.StorageStandard, archive), 1e-9)
	require.InDelta(t, 0.1+3.604*0.0025, prices.Month(livestream.StorageIntelligent, archive), 1e-9)
	require.InDelta(t, (10+3604*32768/1e9)*0.004+3604*8192/1e9*0.02, prices.Month(livestream.StorageGlacier, archive), 1e-9)
	require.InDelta(t, 3.604*0.005, prices.Move(livestream.StorageIntelligent, archive), 1e-9)
	require.InDelta(t, 3.604*0.03, prices.Move(livestream.StorageGlacier, archive), 1e-9)
}
