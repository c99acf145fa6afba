package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Media reads archives' files.
type Media interface {
	Get(ctx context.Context, key string, request livestream.ObjectRequest) (*livestream.Object, error)
	Head(ctx context.Context, key string, request livestream.ObjectRequest) (*livestream.Object, error)
}

// MediaCookies signs what a CDN wants before it gives a browser what is below an
// address. The browser sends it to that path.
type MediaCookies interface {
	Cookies(below, path string, until time.Time) ([]*http.Cookie, error)
}

// privateMedia is where private archives are, behind a grant that is a part of the
// address: the files that a playlist names are below it too.
const privateMedia = "/media/private/"

// publicMediaURL is where files of public archives are, for players.
func (s *Server) publicMediaURL() string { return s.config.MediaURL + "/media/" }

// privateMediaURL is where the files of one's own private archives are. A CDN keeps
// files for longer than a grant is good, and wants cookies besides.
func (s *Server) privateMediaURL(ctx context.Context) (string, error) {
	grant, until, err := s.deps.Tokens.GrantMedia(memberOf(ctx).UserID)
	if err != nil {
		return "", err
	}
	path := privateMedia + grant + "/"
	if s.deps.MediaCookies != nil {
		cookies, err := s.deps.MediaCookies.Cookies(s.config.MediaURL+path, path, until)
		if err != nil {
			return "", err
		}
		for _, cookie := range cookies {
			http.SetCookie(ctx.(*gin.Context).Writer, cookie)
		}
	}
	return s.config.MediaURL + path, nil
}

func mediaURL(base string, archive uuid.UUID, file string) *string {
	address := base + livestream.ArchivePrefix(archive) + file
	return &address
}

// mediaFile are the files that an archive has: nothing else of the bucket can be
// asked for, and no path leads out of it.
var mediaFile = regexp.MustCompile(`^/(master\.m3u8|(poster|thumbnail)\.jpg|storyboard\.vtt|storyboard/sheet_[0-9]{5,9}\.jpg|[a-z0-9]{1,16}/((index|iframes)\.m3u8|init\.mp4|seg_[0-9]{5,9}\.m4s))$`)

// picture are the files of an archive that are there whatever its storage class.
var picture = regexp.MustCompile(`\.(jpg|vtt)$`)

// serveMedia streams a file of an archive from object storage, as the origin of a
// CDN.
func (s *Server) serveMedia(c *gin.Context) {
	s.allowPlayers(c)
	if c.Request.Method == http.MethodOptions {
		c.Status(http.StatusNoContent)
		return
	}
	id, err := uuid.Parse(c.Param("id"))
	file := c.Param("file")
	if err != nil || id.String() != c.Param("id") || !mediaFile.MatchString(file) {
		s.fail(c, noSuchFile())
		return
	}
	playback, err := s.mayPlay(c, id)
	if err != nil {
		s.fail(c, err)
		return
	}
	if playback.StorageClass == livestream.StorageGlacier && !picture.MatchString(file) {
		s.restoring(c, id, playback, file)
		return
	}
	end, err := s.sending.begin(addressGroup(c.ClientIP()))
	if err != nil {
		s.fail(c, err)
		return
	}
	defer end()
	read := s.deps.Media.Get
	if c.Request.Method == http.MethodHead {
		read = s.deps.Media.Head
	}
	object, err := read(c.Request.Context(), livestream.ArchivePrefix(id)+file[1:], livestream.ObjectRequest{
		Range: c.GetHeader("Range"), IfRange: c.GetHeader("If-Range"),
		IfNoneMatch: c.GetHeader("If-None-Match"), IfModifiedSince: c.GetHeader("If-Modified-Since"),
	})
	if err != nil {
		s.fail(c, err)
		return
	}
	defer object.Body.Close()
	if file == "/"+livestream.MasterPlaylist && c.Request.Method == http.MethodGet && c.Param("grant") == "" {
		s.countView(c, id)
	}
	s.send(c, object)
}

// send answers with an object.
func (s *Server) send(c *gin.Context, object *livestream.Object) {
	header := c.Writer.Header()
	cacheControl := object.CacheControl
	if c.Param("grant") != "" && s.deps.MediaCookies == nil {
		cacheControl = strings.Replace(cacheControl, "public", "private", 1) // no cache of others' asks for cookies
	}
	for name, text := range map[string]string{
		"Content-Type": object.ContentType, "Content-Range": object.ContentRange, "Cache-Control": cacheControl, "ETag": object.ETag,
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
	if _, err := io.Copy(newPatient(c.Writer, object.Length), object.Body); err != nil && !errors.Is(err, context.Canceled) {
		s.deps.Log.Debug("media was broken off", zap.Error(err))
		panic(http.ErrAbortHandler) // half a file must not look like a whole one
	}
}

func noSuchFile() *livestream.Error {
	return livestream.Errorf(livestream.CodeNotFound, "there is no such file")
}

// mayPlayTimeout bounds the question whether somebody may have a file.
const mayPlayTimeout = 3 * time.Second

// mayPlay says whether the bearer of the address may have an archive's files.
//
// Errors: not_found, forbidden, unavailable.
func (s *Server) mayPlay(c *gin.Context, id uuid.UUID) (livestream.ArchivePlayback, error) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), mayPlayTimeout)
	defer cancel()
	playback, err := s.deps.Archives.Playback(ctx, id)
	switch {
	case livestream.CodeOf(err) == livestream.CodeArchiveNotFound:
		return playback, noSuchFile()
	case err != nil:
		return playback, err
	case playback.Visibility == livestream.VisibilityPublic:
		return playback, nil
	}
	owner, err := s.deps.Tokens.VerifyMedia(c.Param("grant"))
	if err != nil || owner != playback.UserID {
		return playback, &livestream.Error{Code: livestream.CodeForbidden, Message: "this archive is private; its owner gets an address that plays from GET /api/archives/{id}", Err: err}
	}
	return playback, nil
}

// restoreRetry is when a player may look again for an archive that is on its way.
const restoreRetry = time.Hour

// restoresPerMinute is how many archives an address may have brought back by playing.
const restoresPerMinute = 5

// restoring answers for an archive whose media cannot be read at the moment. Whoever
// is the first to play it has them brought back: bringing back costs money, so that an address
// may do so a few times a minute. The owner of a private archive is told when it plays;
// who is behind a public address is not known here, see RestoreArchive.
func (s *Server) restoring(c *gin.Context, id uuid.UUID, playback livestream.ArchivePlayback, file string) {
	if file == "/"+livestream.MasterPlaylist && c.Request.Method == http.MethodGet && !playback.Restoring {
		if decision := s.deps.RateLimiter.Allow(c.Request.Context(), perMinute("restore", restoresPerMinute), "address:"+addressGroup(c.ClientIP())); !decision.Allowed {
			s.fail(c, tooMany(decision))
			return
		}
		var asker *uuid.UUID
		if playback.Visibility == livestream.VisibilityPrivate {
			asker = &playback.UserID
		}
		ctx, cancel := context.WithTimeout(c.Request.Context(), mayPlayTimeout)
		defer cancel()
		if err := s.deps.Workflows.RestoreArchive(ctx, id, asker); err != nil {
			s.fail(c, err)
			return
		}
	}
	noStore(c)
	c.Writer.Header()["Retry-After"] = []string{strconv.Itoa(int(restoreRetry.Seconds()))}
	c.JSON(http.StatusAccepted, Restoring{Status: RestoringStatusRestoring})
}

// allowPlayers lets players on any page read media (CORS). With a CDN's cookies,
// those of private media have to be on a page that may read the API's answers.
func (s *Server) allowPlayers(c *gin.Context) {
	header := c.Writer.Header()
	header.Set("Access-Control-Allow-Origin", "*")
	if c.Param("grant") != "" && s.deps.MediaCookies != nil {
		header.Add("Vary", "Origin")
		header.Del("Access-Control-Allow-Origin")
		if origin := c.GetHeader("Origin"); slices.Contains(s.config.AllowedOrigins, origin) {
			header.Set("Access-Control-Allow-Origin", origin)
			header.Set("Access-Control-Allow-Credentials", "true")
		}
	}
	header.Set("Access-Control-Expose-Headers", "Content-Length, Content-Range, ETag, Retry-After")
	if c.Request.Method == http.MethodOptions {
		header.Set("Access-Control-Allow-Methods", "GET, HEAD")
		header.Set("Access-Control-Allow-Headers", "Range, If-Range, If-None-Match")
		header.Set("Access-Control-Max-Age", "86400")
	}
}

// mediaPause is how long a player may take none of a file's next bytes, and slowest how
// many it takes in a second at least, after a first pause: whoever is slower cannot play
// the lowest quality, and would hold a place for hours.
const (
	mediaPause = 30 * time.Second
	slowest    = 32 << 10
)

// patient lets a file take its time as long as it gets on: each write has a deadline
// of its own, and all of them one.
type patient struct {
	to      http.ResponseWriter
	control *http.ResponseController
	end     time.Time
}

func newPatient(to http.ResponseWriter, length int64) *patient {
	whole := mediaPause + time.Duration(length/slowest)*time.Second
	return &patient{to, http.NewResponseController(to), time.Now().Add(whole)}
}

func (p *patient) Write(b []byte) (int, error) {
	deadline := time.Now().Add(mediaPause)
	if deadline.After(p.end) {
		deadline = p.end
	}
	_ = p.control.SetWriteDeadline(deadline) // a writer without deadlines is a test's
	return p.to.Write(b)
}
