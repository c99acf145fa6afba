package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
)

// What keeps a browser from doing with an answer what it is not for. Nothing here is
// a page but the documents, which say so themselves. All answers share the values;
// names are as net/http writes them.
var (
	noSniff     = []string{"nosniff"}
	noPage      = []string{"default-src 'none'; frame-ancestors 'none'"}
	anyReader   = []string{"cross-origin"} // media and reads are for any page that CORS lets in
	onlyHTTPS   = []string{"max-age=63072000; includeSubDomains"}
	byOrigin    = []string{"Origin"}
	neverStored = []string{"no-store"}
)

// protect sends it.
func (s *Server) protect(c *gin.Context) {
	header := c.Writer.Header()
	header["X-Content-Type-Options"] = noSniff
	header["Content-Security-Policy"] = noPage
	header["Cross-Origin-Resource-Policy"] = anyReader
	if strings.HasPrefix(s.config.PublicURL, "https://") {
		header["Strict-Transport-Security"] = onlyHTTPS
	}
}

// allowOrigin lets pages of the configured origins read answers (CORS). Others get
// the answer without the header, and their browser keeps it from them.
func (s *Server) allowOrigin(c *gin.Context) {
	if !strings.HasPrefix(c.Request.URL.Path, "/api/") {
		return // media and documents have rules of their own
	}
	if len(s.config.AllowedOrigins) == 0 {
		return
	}
	header := c.Writer.Header()
	header["Vary"] = byOrigin
	origin := c.GetHeader("Origin")
	if origin == "" || !slices.Contains(s.config.AllowedOrigins, origin) {
		return
	}
	header.Set("Access-Control-Allow-Origin", origin)
	if s.deps.MediaCookies != nil {
		header.Set("Access-Control-Allow-Credentials", "true") // or browsers would drop the CDN's cookies
	}
	header.Set("Access-Control-Expose-Headers", "X-Request-ID, Retry-After, RateLimit, RateLimit-Policy, "+readAfterHeader)
	if c.Request.Method != http.MethodOptions || c.GetHeader("Access-Control-Request-Method") == "" {
		return
	}
	header.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
	header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, X-Request-ID, traceparent, "+readAfterHeader)
	header.Set("Access-Control-Max-Age", "3600")
	c.AbortWithStatus(http.StatusNoContent)
}

// noStore keeps answers out of caches that are not ours.
func noStore(c *gin.Context) { c.Writer.Header()["Cache-Control"] = neverStored }

// documentPolicy lets the documents' page run its own script and styles.
const documentPolicy = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
