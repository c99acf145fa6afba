package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/config"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

func tierRules(c config.Tiers) livestream.TierRules {
	return livestream.TierRules{PopularViews: c.PopularViews, IntelligentAfter: c.IntelligentAfter, GlacierAfter: c.GlacierAfter}
}

// tiersCmd is the dry run of what the schedule "tiers" does. The prices are those of
// https://aws.amazon.com/s3/pricing for us-east-1; Intelligent-Tiering has its price for
// what was not read for 30 days.
type tiersCmd struct {
	Standard    float64 `name:"standard-price" default:"0.023" help:"Dollars for a GB and month in Standard."`
	Intelligent float64 `name:"intelligent-price" default:"0.0125" help:"Dollars for a GB and month in Intelligent-Tiering, of what is not read."`
	Glacier     float64 `name:"glacier-price" default:"0.0036" help:"Dollars for a GB and month in Glacier."`
	Monitoring  float64 `name:"monitoring-price" default:"0.0025" help:"Dollars for 1,000 files and a month in Intelligent-Tiering."`
	Copy        float64 `name:"copy-price" default:"0.005" help:"Dollars for 1,000 copies to Standard or Intelligent-Tiering."`
	GlacierCopy float64 `name:"glacier-copy-price" default:"0.03" help:"Dollars for 1,000 copies to Glacier."`
	Classes     bool    `default:"true" help:"The store has storage classes; without them the next run would note its decisions alone."`

	config.Postgres
	config.Tiers
}

// Run prints what the next run would move, and what that saves. It changes nothing.
func (c *tiersCmd) Run(ctx context.Context) error {
	db, err := postgres.Open(ctx, postgresConfig(c.Postgres))
	if err != nil {
		return err
	}
	defer db.Close()
	type move struct{ from, to livestream.StorageClass }
	var (
		archives = postgres.NewArchives(db)
		rules    = tierRules(c.Tiers)
		now      = time.Now().UTC()
		since    = livestream.Midnight(now.Add(-livestream.ViewWindow))
		count    = map[move]int{}
		bytes    = map[move]int64{}
		saves    = map[move]float64{}
		costs    = map[move]float64{}
		prices   = livestream.StoragePrices{
			Standard: c.Standard, Intelligent: c.Intelligent, Glacier: c.Glacier, Monitoring: c.Monitoring, Copy: c.Copy, GlacierCopy: c.GlacierCopy,
		}
		looked int
	)
	const page = 1000
	for after := uuid.Nil; ; {
		some, err := archives.Tiered(ctx, after, since, page)
		if err != nil {
			return err
		}
		for _, archive := range some {
			m := move{archive.Class, archive.Class}
			if !c.Classes {
				m = move{archive.Tier, archive.Tier}
			}
			if to, moves := rules.Move(archive, now, c.Classes); moves {
				m.to = to
			}
			count[m]++
			bytes[m] += archive.SizeBytes
			if c.Classes && m.from != m.to {
				saves[m] += prices.Month(m.from, archive) - prices.Month(m.to, archive)
				costs[m] += prices.Move(m.to, archive)
			}
		}
		looked += len(some)
		if len(some) < page {
			break
		}
		after = some[len(some)-1].ID
		fmt.Fprintf(os.Stderr, "%d archives looked at\n", looked)
	}
	var lines strings.Builder
	lines.WriteString("FROM\tTO\tARCHIVES\tGB\tSAVES $/MONTH\tCOSTS $ ONCE\n")
	total, once := 0.0, 0.0
	classes := []livestream.StorageClass{livestream.StorageStandard, livestream.StorageIntelligent, livestream.StorageGlacier}
	for _, from := range classes {
		for _, to := range classes {
			m := move{from, to}
			if count[m] == 0 {
				continue
			}
			gb := float64(bytes[m]) / 1e9
			total, once = total+saves[m], once+costs[m]
			where := string(to)
			if from == to {
				where = "(stay)"
			}
			fmt.Fprintf(&lines, "%s\t%s\t%d\t%.1f\t%.2f\t%.2f\n", from, where, count[m], gb, saves[m], costs[m])
		}
	}
	fmt.Fprintf(&lines, "all\t\t%d\t\t%.2f\t%.2f\n", looked, total, once)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if _, err := table.Write([]byte(lines.String())); err != nil {
		return err
	}
	return table.Flush()
}
