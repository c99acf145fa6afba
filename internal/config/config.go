// Package config is the product's configuration: groups of flags, each also read
// from the environment, that the commands put together. Apart from cmd/ it is the
// only place that reads the environment.
package config

import "time"

// Log says how much is logged, as JSON on standard error.
type Log struct {
	Level string `name:"log-level" env:"LOG_LEVEL" default:"info" enum:"debug,info,warn,error" help:"Least level that is logged: debug, info, warn or error."`
}

// Tracing says where traces go. What else the collector wants, as headers or
// certificates, OpenTelemetry's exporter reads itself from OTEL_EXPORTER_OTLP_….
type Tracing struct {
	Collector string  `name:"otel-exporter-otlp-endpoint" env:"OTEL_EXPORTER_OTLP_ENDPOINT" help:"Address of a collector that takes OTLP over HTTP, as http://host:4318; no traces are recorded when it is empty."`
	Ratio     float64 `name:"otel-traces-sampler-arg" env:"OTEL_TRACES_SAMPLER_ARG" default:"0.1" help:"Part of the requests that are traced, 0 to 1; a request that comes with a traceparent is traced when that says so."`
}

// Listen is the address that a role serves: its requests, or for a worker its
// health and metrics.
type Listen struct {
	Address string        `name:"listen" env:"LISTEN" default:"127.0.0.1:8080" help:"Address to serve on, host:port."`
	Notice  time.Duration `name:"drain-notice" env:"DRAIN_NOTICE" default:"15s" help:"After SIGTERM: how long new requests are still taken while /health says 503, so that load balancers look elsewhere first."`
}

// Postgres is where the read model lives.
type Postgres struct {
	URL         string        `name:"database-url" env:"DATABASE_URL" required:"" help:"Postgres primary, as a URL."`
	ReplicaURLs []string      `name:"database-replica-urls" env:"DATABASE_REPLICA_URLS" sep:" " help:"Postgres replicas, URLs separated by blanks."`
	MaxConns    int32         `name:"database-max-conns" env:"DATABASE_MAX_CONNS" default:"10" help:"Connections that this process opens at most, to the primary and to each replica."`
	Connect     time.Duration `name:"database-connect-timeout" env:"DATABASE_CONNECT_TIMEOUT" default:"30s" help:"How long a connection may take."`
	Idle        time.Duration `name:"database-idle-timeout" env:"DATABASE_IDLE_TIMEOUT" default:"10m" help:"When an unused connection is closed."`
	MaxLag      time.Duration `name:"database-max-lag" env:"DATABASE_MAX_LAG" default:"1s" help:"How far a replica may be behind before it is no longer read from."`
	Statement   time.Duration `name:"database-statement-timeout" env:"DATABASE_STATEMENT_TIMEOUT" default:"5s" help:"How long a statement may run."`
	Lock        time.Duration `name:"database-lock-timeout" env:"DATABASE_LOCK_TIMEOUT" default:"2s" help:"How long a statement may wait for a lock."`
}

// Redis is where the loud and short-lived state lives.
type Redis struct {
	URL      string        `name:"redis-url" env:"REDIS_URL" required:"" help:"Redis, as a URL."`
	Active   int           `name:"redis-pool-size" env:"REDIS_POOL_SIZE" default:"50" help:"Connections that this process opens at most."`
	Idle     int           `name:"redis-max-idle" env:"REDIS_MAX_IDLE" default:"20" help:"Unused connections that it keeps."`
	Lifetime time.Duration `name:"redis-conn-lifetime" env:"REDIS_CONN_LIFETIME" default:"5m" help:"When a connection is replaced."`
}

// Temporal is where the workflows live.
type Temporal struct {
	Address   string `name:"temporal-address" env:"TEMPORAL_ADDRESS" default:"127.0.0.1:7233" help:"Temporal frontend, host:port."`
	Namespace string `name:"temporal-namespace" env:"TEMPORAL_NAMESPACE" default:"livestream" help:"Temporal namespace."`
}

// S3 is where recordings and archives live. Its keys are found as all of AWS's
// programs find them: in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in the shared
// files, or by the role of the task or of the instance.
type S3 struct {
	Endpoint string `name:"s3-endpoint" env:"S3_ENDPOINT" help:"Address of an S3-compatible store; AWS when it is empty."`
	Public   string `name:"s3-public-endpoint" env:"S3_PUBLIC_ENDPOINT" help:"Address by which clients reach the store, when it is another one."`
	Region   string `name:"s3-region" env:"S3_REGION" default:"us-east-1" help:"Region of the bucket."`
	Bucket   string `name:"s3-bucket" env:"S3_BUCKET" required:"" help:"Bucket for recordings and archives."`
}

// Stripe is who moves the money.
type Stripe struct {
	BaseURL        string        `name:"stripe-api-base" env:"STRIPE_API_BASE" help:"Address of the Stripe API; Stripe's own when it is empty."`
	SecretKey      string        `name:"stripe-secret-key" env:"STRIPE_SECRET_KEY" help:"Secret API key; needed where payments are worked on."`
	Timeout        time.Duration `name:"stripe-timeout" env:"STRIPE_TIMEOUT" default:"5s" help:"How long one call may take."`
	CallsPerSecond int           `name:"stripe-calls-per-second" env:"STRIPE_CALLS_PER_SECOND" default:"80" help:"Calls of all processes together, with bursts of a quarter of it. Stripe allows 100."`
	BreakerRate    float64       `name:"stripe-breaker-rate" env:"STRIPE_BREAKER_RATE" default:"0.1" help:"Part of the calls that fail, of all processes together, at which no more are made for a while."`
	BreakerWindow  time.Duration `name:"stripe-breaker-window" env:"STRIPE_BREAKER_WINDOW" default:"30s" help:"Over what time calls are counted for that."`
	BreakerMinimum int           `name:"stripe-breaker-minimum" env:"STRIPE_BREAKER_MINIMUM" default:"20" help:"How many calls there must be in that time."`
	BreakerPause   time.Duration `name:"stripe-breaker-pause" env:"STRIPE_BREAKER_PAUSE" default:"10s" help:"After what time a call tries again."`
}

// StripeWebhooks is what Stripe's events are signed with.
type StripeWebhooks struct {
	WebhookSecrets []string `name:"stripe-webhook-secret" env:"STRIPE_WEBHOOK_SECRET" sep:" " help:"Secrets that sign webhooks, separated by blanks: the current one, and the last one while it is rotated out."`
}

// Payments are what is done with the money, and what one payer may do. Amounts are in
// minor units.
type Payments struct {
	HourlyCount  int64         `name:"tips-per-hour" env:"TIPS_PER_HOUR" default:"200" help:"Tips that one member may begin within an hour; 0 is no limit."`
	DailyCount   int64         `name:"tips-per-day" env:"TIPS_PER_DAY" default:"1000" help:"Tips that one member may begin within a day; 0 is no limit."`
	HourlyAmount int64         `name:"tip-amount-per-hour" env:"TIP_AMOUNT_PER_HOUR" default:"200000000" help:"Minor units of one currency that one member may tip within an hour; 0 is no limit."`
	DailyAmount  int64         `name:"tip-amount-per-day" env:"TIP_AMOUNT_PER_DAY" default:"500000000" help:"Minor units of one currency that one member may tip within a day; 0 is no limit."`
	Hold         time.Duration `name:"payout-hold" env:"PAYOUT_HOLD" default:"168h" help:"How long a creator's part of a payment stays pending before it is available."`
}

// Tips are what a tip may be.
type Tips struct {
	Ranges map[string]string `name:"tip-ranges" env:"TIP_RANGES" mapsep:" " sep:"=" help:"Least and most of a tip in minor units, by currency, as \"usd=100-50000 jpy=100-50000\"; 50-99999999 for all others."`
}

// Public is how clients reach the product.
type Public struct {
	URL      string   `name:"public-url" env:"PUBLIC_URL" default:"http://127.0.0.1:8080" help:"Address of the API as clients see it."`
	ChatURLs []string `name:"chat-urls" env:"CHAT_URLS" sep:" " default:"ws://127.0.0.1:8081" help:"Addresses of the chat nodes as clients see them, separated by blanks."`
	Origins  []string `name:"allowed-origins" env:"ALLOWED_ORIGINS" sep:" " help:"Origins of the web pages that may open WebSockets and read the API's answers, separated by blanks."`
}

// Media is how players reach the archives' files.
type Media struct {
	URL           string `name:"media-base-url" env:"MEDIA_BASE_URL" help:"Address of a CDN whose origin is the API, as https://host; the API's own when it is empty."`
	MaxFiles      int    `name:"media-max-files" env:"MEDIA_MAX_FILES" default:"500" help:"Files that this process sends at once."`
	MaxPerAddress int    `name:"media-max-files-per-address" env:"MEDIA_MAX_FILES_PER_ADDRESS" default:"50" help:"Files of these that go to one address; it is not looked at with a CDN."`
	KeyPairID     string `name:"cloudfront-key-pair-id" env:"CLOUDFRONT_KEY_PAIR_ID" help:"Id of the public key with which CloudFront checks the cookies for private archives; none are sent when it is empty."`
	KeyFile       string `name:"cloudfront-private-key-file" env:"CLOUDFRONT_PRIVATE_KEY_FILE" type:"path" help:"Its RSA private key in PEM (openssl genrsa 2048)."`
	CookieDomain  string `name:"media-cookie-domain" env:"MEDIA_COOKIE_DOMAIN" help:"Domain that the API and the CDN are both below; the API's host alone when it is empty."`
}

// Tiers say how archives are kept, by their age and their views.
type Tiers struct {
	PopularViews     int64         `name:"popular-views" env:"POPULAR_VIEWS" default:"10" help:"Views within 30 days that keep an archive in S3's Standard class."`
	IntelligentAfter time.Duration `name:"intelligent-after" env:"INTELLIGENT_AFTER" default:"720h" help:"Age at which an archive with fewer of them goes to Intelligent-Tiering."`
	GlacierAfter     time.Duration `name:"glacier-after" env:"GLACIER_AFTER" default:"2160h" help:"Age at which it goes to Glacier."`
}

// Tokens is what access tokens are signed with, and what else verifies them.
type Tokens struct {
	KeyFile          string   `name:"jwt-private-key-file" env:"JWT_PRIVATE_KEY_FILE" required:"" type:"path" help:"Ed25519 private key, PKCS#8 in PEM (openssl genpkey -algorithm ed25519)."`
	PreviousKeyFiles []string `name:"jwt-previous-key-files" env:"JWT_PREVIOUS_KEY_FILES" sep:" " type:"path" help:"Keys whose access tokens are good too, private or public in PEM, separated by blanks: the last one after a rotation, the next one before it."`
}

// PushKeys are what browsers subscribe to pushes with, and what pushes are signed with.
type PushKeys struct {
	File          string   `name:"vapid-private-key-file" env:"VAPID_PRIVATE_KEY_FILE" type:"path" help:"P-256 private key, PKCS#8 in PEM (openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256), that browsers subscribe with; they cannot when it is empty."`
	PreviousFiles []string `name:"vapid-previous-key-files" env:"VAPID_PREVIOUS_KEY_FILES" sep:" " type:"path" help:"Keys that browsers have subscribed with before and are pushed to with still, separated by blanks."`
}

// PushEndpoints say where the push services of browsers may be.
type PushEndpoints struct {
	AllowLoopback bool `name:"web-push-allow-loopback" env:"WEB_PUSH_ALLOW_LOOPBACK" help:"Whether browsers may give addresses of this machine, and other ports than 443: for tests and development alone."`
}

// Pushing is how browsers are told.
type Pushing struct {
	Contact   string `name:"vapid-contact" env:"VAPID_CONTACT" help:"Whom the push services of browsers write to when something is wrong: mailto:somebody@example.com or an https address; needed where they are pushed to."`
	PerSecond int    `name:"web-pushes-per-second" env:"WEB_PUSHES_PER_SECOND" default:"200" help:"Messages to browsers that this process sends in a second."`
}

// Limits chooses a set of limits.
type Limits struct {
	Profile string `name:"limits" env:"LIMITS" default:"normal" enum:"normal,load" help:"normal, or load for a load test that comes from one address."`
}

// Load says whether one address stands for many clients.
func (l Limits) Load() bool { return l.Profile == "load" }

// Proxies are what stands between clients and a role.
type Proxies struct {
	TrustedProxies []string `name:"trusted-proxies" env:"TRUSTED_PROXIES" sep:" " help:"Addresses or networks whose X-Forwarded-For is believed, separated by blanks; none by default."`
}

// Requests are the limits of the API's clients.
type Requests struct {
	ReadsPerMinute   int `name:"reads-per-minute" env:"READS_PER_MINUTE" default:"1200" help:"GET requests of one member, or of one address without a token."`
	WritesPerMinute  int `name:"writes-per-minute" env:"WRITES_PER_MINUTE" default:"300" help:"Other requests of one member."`
	LoginsPerMinute  int `name:"logins-per-minute" env:"LOGINS_PER_MINUTE" default:"120" help:"Logins, registrations and refreshes from one address."`
	LoginsPerAccount int `name:"logins-per-account" env:"LOGINS_PER_ACCOUNT" default:"10" help:"Logins to one account in a minute, from all addresses together."`
}

// Chat are the limits of a chat node.
type Chat struct {
	FlushInterval     time.Duration `name:"chat-flush-interval" env:"CHAT_FLUSH_INTERVAL" default:"50ms" help:"How long a room rests when it was written to, so that messages share a frame, and up to half as long again by chance; up to 100ms."`
	DrainTime         time.Duration `name:"chat-drain-time" env:"CHAT_DRAIN_TIME" default:"50s" help:"Over what time a node that stops sends its clients away; less than the 60s after which it ends."`
	MaxQueue          int           `name:"chat-max-queue" env:"CHAT_MAX_QUEUE" default:"262144" help:"Bytes that may wait for a client that reads slowly, before it is told to come back."`
	MaxConnections    int           `name:"chat-max-connections" env:"CHAT_MAX_CONNECTIONS" default:"20000" help:"Connections to this node."`
	MaxPerUser        int           `name:"chat-max-per-user" env:"CHAT_MAX_PER_USER" default:"50" help:"Connections of one member to this node."`
	MaxPerAddress     int           `name:"chat-max-per-address" env:"CHAT_MAX_PER_ADDRESS" default:"2000" help:"Connections from one address to this node."`
	MessagesPerSecond float64       `name:"chat-messages-per-second" env:"CHAT_MESSAGES_PER_SECOND" default:"2" help:"Messages of one member in one chat, with bursts of five times that."`
}
