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
	lostWork, doneWork := "work/"+uuid.NewString()+"/", "work/"+id+"/"
	put(lostWork + "chunk_00000.json")
	put(doneWork + "chunk_00000.json")
	bob := p.mustRegister(t)
	live := bob.mustStart(nil)
	bob.mustOpenUpload(live, 1)
	bobs := bob.mustArchive(live)
	put("work/" + bobs + "/chunk_00000.json")
	recording := "recordings/" + uuid.NewString() + "/" + uuid.NewString()
	put(recording)
	upload := "recordings/" + uuid.NewString() + "/" + uuid.NewString()
	_, err := p.bucket.CreateUpload(ctx, upload, "video/mp4")
	require.NoError(t, err)

	find := func(area livestream.OrphanArea, later time.Duration) (found livestream.Orphans) {
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestActivityEnvironment()
		gauge, err := telemetry.NewOrphans(prometheus.NewRegistry(), time.Now)
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
	require.ElementsMatch(t, []string{lostWork, doneWork}, names(find(livestream.AreaWork, livestream.OrphanAge)), "what is being made needs it")
	fail := func(at time.Time) {
		failure := livestream.Failure{Code: livestream.FailureInternal, Message: "x"}
		require.NoError(t, postgres.NewArchives(p.db).MarkFailed(ctx, uuid.MustParse(bobs), failure, int(at.Unix()), at))
	}
	fail(time.Now().Add(livestream.OrphanAge - livestream.WorkKept - time.Hour))
	require.Len(t, names(find(livestream.AreaWork, livestream.OrphanAge)), 3, "nobody retries it any more")
	fail(time.Now())
	require.Len(t, names(find(livestream.AreaWork, livestream.OrphanAge)), 2)
	require.Equal(t, []string{recording}, names(find(livestream.AreaRecordings, livestream.OrphanAge)))
	require.Equal(t, []string{upload}, names(find(livestream.AreaUploads, livestream.OrphanAge)))
	bob.mustEnd(live)
	late := bob.mustLateUpload(live)
	require.ElementsMatch(t, []string{upload, late.Key}, names(find(livestream.AreaUploads, livestream.OrphanAge)), "its stream is over")
}

// mustLateUpload begins one when the stream's workflow has forgotten its uploads.
func (c *caller) mustLateUpload(stream string) livestream.Upload {
	c.t.Helper()
	require.NoError(c.t, c.p.temporal.GetWorkflow(c.t.Context(), "stream/"+stream, "").Get(c.t.Context(), nil))
	id := uuid.New()
	upload := livestream.Upload{ID: id, StreamID: uuid.MustParse(stream), ContentType: "video/mp4", SizeBytes: 1, PartSize: 1}
	upload.Key = livestream.RecordingPrefix(upload.StreamID) + id.String()
	var err error
	upload.StorageID, err = c.p.bucket.CreateUpload(c.t.Context(), upload.Key, upload.ContentType)
	require.NoError(c.t, err)
	c.p.exec(c.t, `INSERT INTO uploads (id, stream_id, key, storage_id, content_type, size_bytes, part_size) VALUES ($1, $2, $3, $4, 'video/mp4', 1, 1)`,
		upload.ID, upload.StreamID, upload.Key, upload.StorageID)
	return upload
}

func TestUploadsThatCameTooLateAreForgotten(t *testing.T) {
	t.Parallel()
	p := newProduct(t, options{})
	ada, bob := p.mustRegister(t), p.mustRegister(t)
	over, live := ada.mustStart(nil), bob.mustStart(nil)
	bob.mustOpenUpload(live, 1)
	ada.mustArchive(over)
	ada.mustEnd(over)
	upload := ada.mustLateUpload(over)
	rows := func() int64 { return p.number(t, "SELECT count(*) FROM uploads WHERE archive_id IS NULL") }
	open := func() (keys []string) {
		require.NoError(t, p.bucket.WalkUploads(t.Context(), "recordings/", func(o livestream.StoredObject) error { keys = append(keys, o.Key); return nil }))
		return keys
	}
	forget := func(later time.Duration) {
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestActivityEnvironment()
		steps := &activities.Streams{Recordings: postgres.NewRecordings(p.db), Uploads: p.bucket, Now: func() time.Time { return time.Now().Add(later) }}
		env.RegisterActivity(steps)
		_, err := env.ExecuteActivity(steps.AbortStaleUploads)
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, rows())
	forget(livestream.UploadsKept - time.Hour)
	require.EqualValues(t, 2, rows(), "there is still time to complete it")
	forget(livestream.UploadsKept)
	require.EqualValues(t, 1, rows())
	require.Len(t, open(), 1)
	require.NotContains(t, open(), upload.Key)
}
