package bigdata

import "strings"

// Chance is arithmetic, so that the rows are the same each time: n times a prime,
// modulo another one.

// The slots of a follower lie in eighths of all creators, so that nobody is followed
// twice, and their power makes the first members the most followed.
const slots = `
INSERT INTO follows (follower_id, following_id, followed_at)
SELECT user!(n), user!(target), timestamptz '2023-01-01' + (n * 7919 + slot * 104729) % 63072000 * interval '1 second' + n % 1000 * interval '1 microsecond'
FROM (
	SELECT n, slot, 13 + (({users} - 13) * power((slot - 1 + (n * 7919 + slot * 104729) % 10007 / 10007.0::float8) / 8, 3))::bigint AS target
	FROM generate_series({from}, {to}) n, generate_series(1, 8) slot WHERE slot < 8 OR n % 5 < 2
) f WHERE n <> target AND n <> 12`

const followCounts = `
INSERT INTO follow_counts (user_id, followers, following)
SELECT id, sum(followers), sum(following) FROM (
	SELECT following_id AS id, count(*) AS followers, 0 AS following FROM follows GROUP BY 1
	UNION ALL
	SELECT follower_id, 0, count(*) FROM follows GROUP BY 1
) c GROUP BY id`

// tables are filled in this order, those that take longest first.
var tables = []step{
	{"follows of the first half", replaceRange(slots, "1", "{half}")},
	{"follows of the second half", replaceRange(slots, "{half} + 1", "{users}")},
	{"follows of those with a part", `
INSERT INTO follows (follower_id, following_id, followed_at)
SELECT user!(n), user!(target), timestamptz '2023-01-01' + (n * 7919 + target * 104729) % 63072000 * interval '1 second' + n % 1000 * interval '1 microsecond'
FROM (
	SELECT n, 1 AS target FROM generate_series(2, {users}) n
	UNION ALL
	SELECT n, c FROM generate_series(2, 11) c, generate_series(1, {users}) n WHERE (n * 7919 + c * 104729) % 10007 < 1501 AND n <> 12 AND n <> c
	UNION ALL
	SELECT 12, target FROM generate_series(2, {users} / 10) target WHERE target <> 12
) f`},
	{"users", `
INSERT INTO users (id, username, email, display_name, bio, avatar_url, password_hash, created_at)
SELECT user!(n), 'member_' || n, 'member_' || n || '@example.com', 'Member ' || n, CASE WHEN n % 3 = 0 THEN repeat('A few words on myself. ', n::int % 9 + 1) ELSE '' END,
	'https://img.example.com/avatars/' || n || '.webp', '{hash}', timestamptz '2022-12-01' + n * interval '1 second'
FROM generate_series(1, {users}) n`},
	{"notifications", `
SELECT notifications_months('2025-06-01', '2025-08-01');
INSERT INTO notifications (id, user_id, seq, key, type, read, created_at, data)
SELECT notification!(CASE n WHEN 1 THEN seq ELSE {inbox} + 2 * n + seq END), user!(n), seq, 'new_follower:' || seq, 'new_follower', seq > 1, timestamptz '2025-06-01' + (n + seq) * interval '1 second',
	jsonb_build_object('user_id', user!(seq), 'username', 'member_' || seq, 'count', 1)
FROM (
	SELECT n, seq FROM generate_series(2, {users}) n, generate_series(1, 2) seq
	UNION ALL
	SELECT 1, seq FROM generate_series(1, {inbox}) seq
) i`},
	{"inboxes", `
INSERT INTO inboxes (user_id, last_seq, unread) SELECT user!(n), CASE n WHEN 1 THEN {inbox} ELSE 2 END, 1 FROM generate_series(1, {users}) n`},
	{"notification_settings", `
INSERT INTO notification_settings (user_id, stream_live, new_follower) SELECT user!(n), n % 20 <> 0, n % 30 <> 0 FROM generate_series(10, {users}, 10) n`},
	{"streams", `
INSERT INTO streams (id, user_id, title, description, category, tags, status, ingest, viewer_count, peak_viewer_count, started_at, ended_at, created_at, archive_id)
SELECT stream!(n), CASE WHEN live THEN user!(13 + {streams} - n) WHEN n % 100 = 50 THEN user!(1) ELSE user!(2 + n * 7919 % ({users} - 1)) END,
	'Stream ' || n, repeat('What is shown and why. ', n::int % 12), CASE WHEN n % 2 = 0 THEN 'gaming' WHEN n % 4 = 1 THEN 'music' ELSE 'category ' || n % 37 END,
	ARRAY['tag' || n % 5, 'tag' || n % 7 + 10], status, 'external', viewers, viewers * 2,
	CASE status WHEN 'starting' THEN 'infinity' ELSE at END, CASE status WHEN 'ended' THEN at + interval '2 hours' END, at,
	CASE WHEN n % 2 = 0 AND n <= 2 * {archives} AND status = 'ended' THEN archive!(n / 2) END
FROM (
	SELECT n, n > {streams} - {live} AS live, timestamptz '2024-01-01' + n * interval '5 minutes' AS at,
		CASE WHEN n > {streams} - {live} THEN 0 ELSE (power(n * 7919 % 10007 / 10007.0, 4) * 50000)::bigint END AS viewers,
		CASE WHEN n <= {streams} - {live} THEN CASE WHEN n > {streams} - {live} - 10 THEN 'ending' ELSE 'ended' END
			WHEN n % 50 = 0 THEN 'starting' WHEN n % 50 = 1 THEN 'reconnecting' ELSE 'live' END AS status
	FROM generate_series(1, {streams}) n
) s`},
	{"stream_events", `
INSERT INTO stream_events (stream_id, seq, key, type, at)
SELECT stream!(n), seq, (ARRAY['created', 'live', 'ending', 'ended'])[seq], (ARRAY['created', 'live', 'ending', 'ended'])[seq],
	timestamptz '2024-01-01' + n * interval '5 minutes' + seq * interval '1 minute'
FROM generate_series(2, {streams}) n, generate_series(1, 4) seq WHERE n <= {streams} - {live} OR seq < 3
UNION ALL
SELECT stream!(1), seq, 'event:' || seq, CASE WHEN seq % 2 = 0 THEN 'live' ELSE 'reconnecting' END, timestamptz '2024-01-01' + seq * interval '1 second'
FROM generate_series(1, {timeline}) seq`},
	{"chat_events", `
INSERT INTO chat_events (stream_id, id, type, event, sent_at)
SELECT stream!(n), id, 'message', '{"text": "what was said"}'::json, timestamptz '2024-01-01' + n * interval '5 minutes' + id * interval '1 second' FROM generate_series(1, {streams}) n, generate_series(1, 4) id WHERE n <> 3
UNION ALL
SELECT stream!(1), id, 'message', '{"text": "what was said"}'::json, timestamptz '2024-01-01' + id * interval '1 second' FROM generate_series(5, {timeline}) id`},
	{"chat_moderators", `
INSERT INTO chat_moderators (user_id, moderator_id, added_at)
SELECT user!(n), user!(m), timestamptz '2024-01-01' + m * interval '1 second' FROM generate_series(1, 1000) n, generate_series(1001, 1005) m`},
	{"archives", `
INSERT INTO archives (id, stream_id, user_id, title, status, progress, duration_seconds, size_bytes, renditions, view_count, failure, created_at, ready_at)
SELECT archive!(n), s.id, s.user_id, s.title, status, CASE status WHEN 'ready' THEN 1 ELSE 0.5 END, 7200, 3000000000,
	'[{"name": "720p", "width": 1280, "height": 720, "bitrate": 2800000}]', n % 1000,
	CASE status WHEN 'failed' THEN '{"code": "probe_failed", "message": "the recording cannot be read"}'::jsonb END, at, CASE status WHEN 'ready' THEN at + interval '1 hour' END
FROM (
	SELECT n, timestamptz '2024-01-01' + 2 * n * interval '5 minutes' + interval '2 hours' AS at,
		CASE WHEN n % 100 = 0 THEN 'processing' WHEN n % 50 = 1 THEN 'failed' ELSE 'ready' END AS status,
		stream!(2 * n) AS id, CASE WHEN n % 50 = 25 THEN user!(1) ELSE user!(2 + 2 * n * 7919 % ({users} - 1)) END AS user_id, 'Stream ' || 2 * n AS title
	FROM generate_series(1, least({archives}, ({streams} - {live} - 10) / 2)) n
) s`},
	{"archive_views", `
INSERT INTO archive_views (archive_id, day, views) SELECT id, current_date - day, day FROM archives, generate_series(1, 3) day WHERE status = 'ready'`},
	{"uploads", `
INSERT INTO uploads (id, stream_id, key, storage_id, content_type, size_bytes, part_size, archive_id)
SELECT upload!(n), stream!(n), 'uploads/' || n, 'storage-' || n, 'video/mp4', 3000000000, 16777216, CASE WHEN n % 2 = 0 THEN archive!(n / 2) END
FROM generate_series(1, {streams} - {live} - 10) n`},
	{"notification_progress", `
INSERT INTO notification_progress (stream_id, status, followers_total, notified, failed, started_at, finished_at)
SELECT stream!(n), 'completed', n % 1000, n % 1000, 0, timestamptz '2024-01-01' + n * interval '5 minutes', timestamptz '2024-01-01' + n * interval '5 minutes'
FROM generate_series(1, {streams}) n`},
	{"transactions", `
INSERT INTO transactions (id, status, kind, amount, currency, sender_id, recipient_id, stream_id, message, fee_amount, payment_intent_id, client_secret,
	workflow_id, created_at, settled_at, available_at, failed_at, failure)
SELECT transaction!(n), status, 'tip', 500, 'eur', user!(sender), user!(recipient), stream!(stream), 'well done', CASE status WHEN 'succeeded' THEN 50 ELSE 0 END,
	'pi_' || n, 'pi_' || n || '_secret', 'payment/' || n, at, CASE status WHEN 'succeeded' THEN at END, CASE status WHEN 'succeeded' THEN at + interval '7 days' END,
	CASE status WHEN 'failed' THEN at END,
	CASE status WHEN 'failed' THEN '{"code": "card_declined", "message": "the card was declined"}'::jsonb END
FROM (
	SELECT n, CASE WHEN n % 20 = 0 THEN 'failed' WHEN n % 100 = 1 THEN 'queued' ELSE 'succeeded' END AS status,
		CASE WHEN n % 10 = 3 THEN 12 ELSE 1000 + n * 7919 % ({users} - 1000) END AS sender, CASE WHEN n % 5 = 0 THEN 1 ELSE 13 + n * 104729 % 980 END AS recipient,
		1 + n * 31 % {streams} AS stream, timestamptz '2024-01-01' + n * interval '5 minutes' AS at
	FROM generate_series(1, {transactions}) n
) t`},
	{"ledger_accounts", `
INSERT INTO ledger_accounts (id, kind, user_id, currency)
SELECT account!(2 * n), 'card', user!(n), 'eur' FROM generate_series(2, {users}) n WHERE n = 12 OR n >= 1000
UNION ALL
SELECT account!(2 * n + 1), 'creator_pending', user!(n), 'eur' FROM generate_series(1, 992) n WHERE n = 1 OR n >= 13
UNION ALL
SELECT account!(1), 'platform_fee', NULL, 'eur'`},
	{"ledger_transactions", `
INSERT INTO ledger_transactions (id, transaction_id, kind, posted_at)
SELECT posting!(n), transaction!(n), 'settlement', timestamptz '2024-01-01' + n * interval '5 minutes'
FROM generate_series(1, {transactions}) n WHERE n % 20 <> 0 AND n % 100 <> 1`},
	{"ledger_entries", `
INSERT INTO ledger_entries (ledger_transaction_id, account_id, amount, currency)
SELECT posting!(n), CASE part WHEN 1 THEN account!(2 * sender) WHEN 2 THEN account!(1) ELSE account!(2 * recipient + 1) END,
	(ARRAY[-500, 50, 450])[part], 'eur'
FROM (
	SELECT n, CASE WHEN n % 10 = 3 THEN 12 ELSE 1000 + n * 7919 % ({users} - 1000) END AS sender, CASE WHEN n % 5 = 0 THEN 1 ELSE 13 + n * 104729 % 980 END AS recipient
	FROM generate_series(1, {transactions}) n WHERE n % 20 <> 0 AND n % 100 <> 1
) t, generate_series(1, 3) part`},
	{"ledger_balances", `
INSERT INTO ledger_balances (account_id, amount)
SELECT account!(2 * recipient + 1), 450 * count(*) FROM (
	SELECT CASE WHEN n % 5 = 0 THEN 1 ELSE 13 + n * 104729 % 980 END AS recipient
	FROM generate_series(1, {transactions}) n WHERE n % 20 <> 0 AND n % 100 <> 1
) t GROUP BY recipient`},
	{"stripe_events", `
INSERT INTO stripe_events (id, type, created_at, payment_intent_id, workflow_id, payload, delivered_at)
SELECT 'evt_' || n, 'payment_intent.succeeded', timestamptz '2024-01-01' + n * interval '5 minutes', 'pi_' || n, 'payment/' || n, '{}', now()
FROM generate_series(1, {transactions}) n`},
	{"sessions", `
INSERT INTO sessions (id, user_id, revoked_at) SELECT session!(n), user!(n), CASE WHEN n % 7 = 0 THEN now() END FROM generate_series(1, {users}, 4) n`},
	{"refresh_tokens", `
INSERT INTO refresh_tokens (hash, session_id, expires_at, used_at, successor_hash)
SELECT sha256((n || ':' || generation)::bytea), session!(n), now() + interval '7 days', CASE generation WHEN 1 THEN now() END,
	CASE generation WHEN 1 THEN sha256((n || ':2')::bytea) END
FROM generate_series(1, {users}, 4) n, generate_series(1, 2) generation`},
	{"idempotency_keys", `
INSERT INTO idempotency_keys (user_id, operation, key, request_hash, resource_id, status, response, created_at)
SELECT user!(n), 'create_transaction', 'key-' || n, sha256(n::text::bytea), transaction!(n), 201, '{}', now() - n * interval '1 second'
FROM generate_series(1, {users}, 8) n`},
}

func replaceRange(sql, from, to string) string {
	return strings.NewReplacer("{from}", from, "{to}", to).Replace(sql)
}
