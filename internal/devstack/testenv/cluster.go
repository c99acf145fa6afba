package testenv

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
)

// Cluster starts a Postgres of the test's own, with replicas that it may kill or
// hold back. Its database "livestream" is empty.
func Cluster(tb testing.TB, replicas int) *devstack.Cluster {
	tb.Helper()
	dir, err := os.MkdirTemp("", "livestream-cluster-")
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	cluster, err := devstack.StartCluster(Context(tb), dir, replicas)
	require.NoError(tb, err)
	tb.Cleanup(cluster.Close)
	return cluster
}
