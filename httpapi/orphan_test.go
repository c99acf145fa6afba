package httpapi_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/internal/telemetry"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

func TestWhatBelongsToNobodyIsFound(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{})
	ada := p.mustRegister(t)
	id, _ := ada.mustPublish()
	ctx, content := t.Context(), []byte("12345")
	put := func(key string) { require.NoError(t, p.bucket.UploadBytes(ctx, key, content, "video/mp4", "")) }
	lost := "archives/" + uuid.NewString() + "/"
	put(lost + "master.m3u8")
	put(lost + "720p/init.mp4")
	put("archives/" + id[:35] + "/master.m3u8") // begins like one that is somebody's
	put("archives/" + id + "0/master.m3u8")
	put("work/" + uuid.NewString() + "/chunk_00000.json")
	recording := "recordings/" + uuid.NewString() + "/" + uuid.NewString()
	put(recording)
	upload := "recordings/" + uuid.NewString() + "/" + uuid.NewString()
	_, err := p.bucket.CreateUpload(ctx, upload, "video/mp4")
	require.NoError(t, err)

	find := func(area livestream.OrphanArea, later time.Duration) (found livestream.Orphans) {
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestActivityEnvironment()
		gauge, err := telemetry.NewOrphans(prometheus.NewRegistry())
		require.NoError(t, err)
		steps := &activities.Orphans{Owners: postgres.NewOwners(p.db), Objects: p.bucket, Gauge: gauge, Now: func() time.Time { return time.Now().Add(later) }}
		env.RegisterActivity(steps)
		result, err := env.ExecuteActivity(steps.Find, area)
		require.NoError(t, err)
		require.NoError(t, result.Get(&found))
		return found
	}
	names := func(found livestream.Orphans) (names []string) {
		for _, orphan := range found.First {
			names = append(names, orphan.Prefix)
		}
		return names
	}
	for _, area := range []livestream.OrphanArea{livestream.AreaArchives, livestream.AreaWork, livestream.AreaRecordings, livestream.AreaUploads} {
		require.Zero(t, find(area, livestream.OrphanAge-time.Hour).Count, "%s: what is new may have its row soon", area)
	}
	archives := find(livestream.AreaArchives, livestream.OrphanAge)
	require.ElementsMatch(t, []string{lost, "archives/" + id[:35] + "/", "archives/" + id + "0/"}, names(archives))
	require.Equal(t, 4, archives.Looked)
	require.EqualValues(t, 4*len(content), archives.SizeBytes)
	require.Equal(t, 1, find(livestream.AreaWork, livestream.OrphanAge).Count)
	require.Equal(t, []string{recording}, names(find(livestream.AreaRecordings, livestream.OrphanAge)))
	require.Equal(t, []string{upload}, names(find(livestream.AreaUploads, livestream.OrphanAge)))
}
