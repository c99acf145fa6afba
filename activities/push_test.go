package activities_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/activities"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
	"github.com/livestream-pro/livestream-pro/internal/webpush"
	"github.com/livestream-pro/livestream-pro/internal/webpush/webpushtest"
	"github.com/livestream-pro/livestream-pro/storage/postgres"
)

// delivery is a notice for the browsers of a member, and how far it is: the attempts
// follow one another without the pauses between them.
type delivery struct {
	t             *testing.T
	services      []*webpushtest.Service
	subscriptions *postgres.PushSubscriptions
	login         uuid.UUID
	keys          webpush.Keys
	steps         *activities.Pushes
	push          livestream.NotificationPush
	state         *activities.PushDelivery
}

func newDelivery(t *testing.T, services ...*webpushtest.Service) *delivery {
	t.Helper()
	ctx := testenv.Context(t)
	keys, err := webpush.LoadKeys(webpushtest.KeyFile(t))
	require.NoError(t, err)
	db, err := postgres.Open(ctx, postgres.Config{URL: testenv.Database(t)})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	user, err := postgres.NewUsers(db).Create(ctx, livestream.NewUser{
		ID: uuid.Must(uuid.NewV7()), Username: "bob", Email: "bob@example.com", DisplayName: "Bob", PasswordHash: "hash",
	})
	require.NoError(t, err)
	login := livestream.RefreshToken{Hash: user.ID[:], FamilyID: user.ID, UserID: user.ID, ExpiresAt: time.Now().Add(time.Hour)}
	require.NoError(t, postgres.NewSessions(db).Create(ctx, login))
	d := &delivery{t: t, login: login.FamilyID, services: services, subscriptions: postgres.NewPushSubscriptions(db), keys: keys}
	d.elsewhere()
	d.push = livestream.NotificationPush{Key: "archive_ready:1", At: time.Now().UTC().Truncate(time.Microsecond), User: &user.ID}
	_, err = postgres.NewNotifications(db).Notify(ctx, livestream.NewNotification{
		UserID: user.ID, Key: d.push.Key, Type: livestream.NotifyArchiveReady, At: d.push.At, Data: map[string]any{},
	})
	require.NoError(t, err)
	return d
}

// elsewhere has it go on in another process, which has not heard how services are.
func (d *delivery) elsewhere() {
	d.t.Helper()
	sender, err := webpush.New(webpush.Config{ // all services have the same certificate
		Keys: d.keys, Contact: "mailto:operator@example.com", AllowLoopback: true, Roots: webpushtest.Roots(d.services[0]), Registry: prometheus.NewRegistry(),
	})
	require.NoError(d.t, err)
	d.steps = &activities.Pushes{Store: d.subscriptions, Sender: sender}
}

// browser is one of the member's that is told by a service.
func (d *delivery) browser(service *webpushtest.Service) *webpushtest.Browser {
	d.t.Helper()
	b := service.Subscribe(d.t, d.keys.Public)
	_, err := d.subscriptions.Subscribe(testenv.Context(d.t), livestream.PushSubscription{
		UserID: *d.push.User, FamilyID: d.login, Endpoint: b.Endpoint, Key: b.Key(), Secret: b.Secret(), ServerKey: d.keys.Public,
	})
	require.NoError(d.t, err)
	return b
}

// attempt goes on where the one before was, and gives what it says: how many were
// told, or after how long the next one is to begin.
func (d *delivery) attempt() (told map[livestream.PushResult]int, again time.Duration) {
	d.t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(d.steps)
	if d.state != nil {
		env.SetHeartbeatDetails(*d.state)
	}
	env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		var state activities.PushDelivery
		require.NoError(d.t, details.Get(&state))
		d.state = &state
	})
	value, err := env.ExecuteActivity(d.steps.Deliver, d.push)
	if err == nil {
		require.NoError(d.t, value.Get(&told))
		return told, 0
	}
	var waits *temporal.ApplicationError
	require.True(d.t, errors.As(err, &waits), "%v", err)
	require.False(d.t, waits.NonRetryable())
	require.Positive(d.t, waits.NextRetryDelay(), "%v", err)
	return nil, waits.NextRetryDelay()
}

func failing(b *webpushtest.Browser) {
	b.Answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
}

// A service that stays away is asked again ever more seldom, and given up in the end.
// No attempt waits for it, and who has been told is not told again.
func TestAServiceThatStaysAwayIsGivenUp(t *testing.T) {
	t.Parallel()
	good, away := webpushtest.New(t), webpushtest.New(t)
	d := newDelivery(t, good, away)
	first, second, last := d.browser(good), d.browser(away), d.browser(good)
	failing(second)
	var pauses []time.Duration
	told, again := d.attempt()
	for ; told == nil; told, again = d.attempt() {
		pauses = append(pauses, again)
		require.Less(t, len(pauses), 20, "it goes on for ever")
	}
	require.Equal(t, map[livestream.PushResult]int{livestream.PushSent: 2, livestream.PushFailed: 1}, told)
	require.Equal(t, []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, 64 * time.Second}, pauses)
	require.Positive(t, second.Tries())
	for _, b := range []*webpushtest.Browser{first, last} {
		require.Len(t, b.Got(), 1)
	}
}

// While some of those that were put off get through, the others are not given up, and
// the pauses are short again.
func TestNobodyIsGivenUpWhileOthersGetThrough(t *testing.T) {
	t.Parallel()
	busy, away := webpushtest.New(t), webpushtest.New(t)
	d := newDelivery(t, busy, away)
	b, lost := d.browser(busy), d.browser(away)
	failing(b)
	failing(lost)
	_, again := d.attempt()
	require.Equal(t, 2*time.Second, again)
	require.Len(t, d.state.PutOff, 2)
	for _, pause := range []time.Duration{4 * time.Second, 8 * time.Second} {
		_, again = d.attempt()
		require.Equal(t, pause, again)
	}
	require.Equal(t, 2, d.state.Rounds)
	b.Answer = nil
	d.elsewhere()
	_, again = d.attempt()
	require.Equal(t, 2*time.Second, again)
	require.Len(t, b.Got(), 1)
	require.Len(t, d.state.PutOff, 1)
	lost.Answer = nil
	d.elsewhere()
	told, _ := d.attempt()
	require.Equal(t, map[livestream.PushResult]int{livestream.PushSent: 2}, told)
	require.Len(t, b.Got(), 1)
	require.Len(t, lost.Got(), 1)
}

// A service is asked again when it wants to be, and not before, also by a delivery that
// has nothing else to do.
func TestAServiceSaysWhenItIsAskedAgain(t *testing.T) {
	t.Parallel()
	busy := webpushtest.New(t)
	d := newDelivery(t, busy)
	b := d.browser(busy)
	b.Answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "90")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	for range 2 {
		_, again := d.attempt()
		require.InDelta(t, 90, again.Seconds(), 5)
		require.Equal(t, 1, b.Tries())
	}
}
