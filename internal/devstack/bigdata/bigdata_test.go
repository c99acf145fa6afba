package bigdata_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/devstack/bigdata"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

func TestX(t *testing.T) {
	c := testenv.Cluster(t, 0)
	ctx := testenv.Context(t)
	require.NoError(t, postgres.Migrate(ctx, c.PrimaryURL, nil))
	b := time.Now()
	require.NoError(t, bigdata.Fill(ctx, c.PrimaryURL, bigdata.Options{Scale: scale(), Log: func(s string, d time.Duration) { t.Log(s, d) }}))
	t.Log("all", time.Since(b))
}
