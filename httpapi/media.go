package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Media reads archives' files.
type Media interface {
	Get(ctx context.Context, key, rangeHeader, ifNoneMatch string) (*livestream.Object, error)
}

// mediaURL is where a file of an archive is, for players.
func (s *Server) mediaURL(archive uuid.UUID, file string) *string {
	address := s.config.PublicURL + "/media/" + livestream.ArchivePrefix(archive) + file
	return &address
}

// mediaFile are the files that an archive has: nothing else of the bucket can be
// asked for, and no path leads out of it.
var mediaFile = regexp.MustCompile(`^/(master\.m3u8|thumbnail\.jpg|[a-z0-9]{1,16}/(index\.m3u8|init\.mp4|seg_[0-9]{5,9}\.m4s))$`)

// serveMedia streams a file of an archive from object storage, as the origin of a
// CDN. Players on any page may read it.
func (s *Server) serveMedia(c *gin.Context) {
	header := c.Writer.Header()
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Access-Control-Expose-Headers", "Content-Length, Content-Range, ETag")
	if c.Request.Method == http.MethodOptions {
		header.Set("Access-Control-Allow-Methods", "GET, HEAD")
		header.Set("Access-Control-Allow-Headers", "Range, If-None-Match")
		header.Set("Access-Control-Max-Age", "86400")
		c.Status(http.StatusNoContent)
		return
	}
	id, err := uuid.Parse(c.Param("id"))
	file := c.Param("file")
	if err != nil || id.String() != c.Param("id") || !mediaFile.MatchString(file) {
		s.fail(c, livestream.Errorf(livestream.CodeNotFound, "there is no such file"))
		return
	}
	object, err := s.deps.Media.Get(c.Request.Context(), livestream.ArchivePrefix(id)+file[1:], c.GetHeader("Range"), c.GetHeader("If-None-Match"))
	if err != nil {
		s.fail(c, err)
		return
	}
	defer object.Body.Close()
	for name, text := range map[string]string{
		"Content-Type": object.ContentType, "Content-Range": object.ContentRange, "Cache-Control": object.CacheControl, "ETag": object.ETag,
	} {
		if text != "" {
			header.Set(name, text)
		}
	}
	header.Set("Accept-Ranges", "bytes")
	if !object.LastModified.IsZero() {
		header.Set("Last-Modified", object.LastModified.UTC().Format(http.TimeFormat))
	}
	if object.Status == http.StatusOK || object.Status == http.StatusPartialContent {
		header.Set("Content-Length", strconv.FormatInt(object.Length, 10))
	}
	c.Status(object.Status)
	c.Writer.WriteHeaderNow()
	if c.Request.Method == http.MethodHead {
		return
	}
	if _, err := io.Copy(&patient{c.Writer, http.NewResponseController(c.Writer)}, object.Body); err != nil && !errors.Is(err, context.Canceled) {
		s.deps.Log.Debug("media was broken off", zap.Error(err))
		panic(fmt.Errorf("%w: media was broken off", http.ErrAbortHandler)) // half a file must not look like a whole one
	}
}

// mediaPause is how long a player may take none of a file's next bytes.
const mediaPause = 30 * time.Second

// patient lets a file take its time as long as it gets on: each write has a deadline
// of its own.
type patient struct {
	to      io.Writer
	control *http.ResponseController
}

func (p *patient) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(mediaPause)) // a writer without deadlines is a test's
	return p.to.Write(b)
}
