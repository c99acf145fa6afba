package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/livestream-pro/livestream-pro/internal/devstack"
)

// player is a page that plays an archive with hls.js and keeps what goes wrong. That a
// busy machine plays haltingly is no fault of the archive's.
const player = `<!doctype html><video id=v muted playsinline></video><script src=/hls.min.js></script><script>
const v = document.getElementById('v'), errors = [], harmless = ['bufferStalledError', 'bufferNudgeOnStall'];
const hls = new Hls({ startLevel: 0, capLevelToPlayerSize: false });
hls.on(Hls.Events.ERROR, (_, e) => { if (e.fatal || !harmless.includes(e.details)) errors.push(e.type + ' ' + e.details + ' ' + (e.error || '')); });
hls.on(Hls.Events.MANIFEST_PARSED, () => { hls.autoLevelEnabled && (hls.currentLevel = 0); v.play().catch(e => errors.push('play ' + e)); });
v.addEventListener('error', () => errors.push('video ' + v.error.message));
hls.loadSource(new URLSearchParams(location.search).get('src'));
hls.attachMedia(v);
</script>`

// browse opens a page in a browser, whose tab the context is.
func (s *stack) browse(address string) context.Context {
	s.Helper()
	program, err := exec.LookPath("chromium")
	require.NoError(s, err, "chromium is missing; on Debian: apt-get install chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"))
	allocator, stop := chromedp.NewExecAllocator(s.ctx, options...)
	s.Cleanup(stop)
	browser, stop := chromedp.NewContext(allocator)
	s.Cleanup(stop)
	_, err = chromedp.Run(browser, chromedp.Navigate(address))
	require.NoError(s, err)
	return browser
}

// An archive plays in a browser: from the start, across a border of two chunks after a
// seek, and in another quality, without an error.
func TestArchivePlaysInABrowser(t *testing.T) {
	t.Parallel()
	root, err := devstack.FindRoot()
	require.NoError(t, err)
	const border, seconds = 60, 66
	s := newStack(t, api|worker|transcode)
	ada := s.register("ada")
	stream := ada.start(true)
	ada.end(stream)
	archiveID := ada.upload(stream.ID, s.recordingOf(seconds, 640, 480))
	archive := ada.archived(archiveID, "ready")
	s.plays(archive, seconds, "480p", "360p")

	mux := http.NewServeMux()
	mux.Handle("GET /hls.min.js", http.FileServer(http.Dir(filepath.Join(root, "e2e", "testdata", "hls.js"))))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, player)
	})
	page := httptest.NewServer(mux)
	t.Cleanup(page.Close)
	browser := s.browse(page.URL + "/?src=" + archive.PlaybackURL)

	evaluate := func(script string) string {
		t.Helper()
		value, err := chromedp.Run(browser, chromedp.Evaluate[string]("String("+script+")"))
		require.NoError(t, err)
		return value
	}
	becomes := func(condition string) {
		t.Helper()
		if !assert.Eventually(t, func() bool { return evaluate(condition) == "true" }, time.Minute, 50*time.Millisecond) {
			require.FailNow(t, "it did not happen", "%s: at %s s, %s pixels high, in quality %s, errors: %s",
				condition, evaluate("v.currentTime"), evaluate("v.videoHeight"), evaluate("hls.currentLevel"), evaluate("errors"))
		}
	}
	becomes("v.currentTime > 1")
	require.Equal(t, "2", evaluate("hls.levels.length"))
	require.Equal(t, "true", evaluate(fmt.Sprintf("Math.abs(v.duration - %d) < 0.1", seconds)))
	require.Equal(t, "true", evaluate("v.webkitAudioDecodedByteCount > 0"), "the sound plays too")

	evaluate(fmt.Sprintf("v.currentTime = %d", border-1))
	becomes(fmt.Sprintf("v.currentTime > %d && !v.seeking", border+1))

	// The other quality, and back: what is shown is as large as it says. hls.js sorts them
	// by bit rate.
	for _, level := range []int{1, 0} {
		evaluate("v.currentTime = 20")
		becomes("v.currentTime > 20 && v.currentTime < 40 && !v.seeking")
		evaluate(fmt.Sprintf("hls.currentLevel = %d", level))
		becomes(fmt.Sprintf("v.videoHeight == %d && hls.currentLevel == %d", []int{360, 480}[level], level))
	}
	require.Empty(t, evaluate("errors"))
}
