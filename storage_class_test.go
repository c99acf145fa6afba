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
