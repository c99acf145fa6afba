package postgres_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	livestream "github.com/livestream-pro/livestream-pro"
	"github.com/livestream-pro/livestream-pro/internal/devstack/testenv"
)

func TestCreateUser(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	registered := someone(t)
	user, err := s.Users.Create(ctx, registered)
	require.NoError(t, err)
	require.WithinDuration(t, now(), user.CreatedAt, testClockTolerance)
	require.Equal(t, livestream.User{
		ID: registered.ID, Username: registered.Username, Email: registered.Email, DisplayName: registered.DisplayName,
		Role: livestream.RoleMember, CreatedAt: user.CreatedAt,
	}, user)

	read, err := s.Users.ByID(ctx, registered.ID)
	require.NoError(t, err)
	require.Equal(t, user, read)
}

func TestUsernameAndEmailAreUniqueInAnyCase(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	first := s.MustCreateUser(t)

	second := someone(t)
	second.Username = strings.ToUpper(first.Username)
	_, err := s.Users.Create(ctx, second)
	requireCode(t, livestream.CodeUsernameTaken, err)

	second = someone(t)
	second.Email = strings.ToUpper(first.Email)
	_, err = s.Users.Create(ctx, second)
	requireCode(t, livestream.CodeEmailTaken, err)
}

func TestOneOfManyGetsAUsername(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	users := make([]livestream.NewUser, 20)
	for i := range users {
		users[i] = someone(t)
		users[i].Username = "popular"
	}
	errs := race(len(users), func(i int) error { _, err := s.Users.Create(ctx, users[i]); return err })
	require.Equal(t, map[livestream.Code]int{"": 1, livestream.CodeUsernameTaken: 19}, codes(errs))
}

func TestUnknownUser(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	_, err := s.Users.ByID(ctx, newID(t))
	requireCode(t, livestream.CodeUserNotFound, err)
	_, err = s.Users.CredentialsByEmail(ctx, "nobody@example.com")
	requireCode(t, livestream.CodeUserNotFound, err)
	_, err = s.Users.Update(ctx, newID(t), livestream.UserPatch{})
	requireCode(t, livestream.CodeUserNotFound, err)
	requireCode(t, livestream.CodeUserNotFound, s.Users.SetRole(ctx, "nobody", livestream.RoleAdmin))
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	require.NoError(t, s.Users.SetRole(ctx, strings.ToUpper(user.Username), livestream.RoleAdmin))

	credentials, err := s.Users.CredentialsByEmail(ctx, strings.ToUpper(user.Email))
	require.NoError(t, err)
	require.Equal(t, livestream.Credentials{UserID: user.ID, PasswordHash: "hash", Role: livestream.RoleAdmin}, credentials)
}

func TestUpdateUser(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)

	bio := "Plays the organ."
	changed, err := s.Users.Update(ctx, user.ID, livestream.UserPatch{Bio: &bio})
	require.NoError(t, err)
	user.Bio = bio
	require.Equal(t, user, changed, "what is not in the patch stays")

	empty, name, avatar := "", "Organist", "https://example.com/a.png"
	changed, err = s.Users.Update(ctx, user.ID, livestream.UserPatch{Bio: &empty, DisplayName: &name, AvatarURL: &avatar})
	require.NoError(t, err)
	user.Bio, user.DisplayName, user.AvatarURL = empty, name, avatar
	require.Equal(t, user, changed)
}

func TestUserShowsTheirLiveStream(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t), testenv.Context(t)
	user := s.MustCreateUser(t)
	stream := s.MustCreateStream(t, user.ID)
	read, err := s.Users.ByID(ctx, user.ID)
	require.NoError(t, err)
	require.Equal(t, &stream.ID, read.LiveStreamID)

	_, err = s.Streams.Finish(ctx, stream.ID, now(), 0, 0)
	require.NoError(t, err)
	read, err = s.Users.ByID(ctx, user.ID)
	require.NoError(t, err)
	require.Nil(t, read.LiveStreamID)
}

// A member's money and streams outlive the wish to delete their row.
func TestUserWithMoneyCannotBeDeleted(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	sender, recipient := s.MustCreateUser(t), s.MustCreateUser(t)
	s.MustCreateTip(t, sender.ID, recipient.ID, 500)
	requireRefused(t, "transactions_sender_id_fkey", s.Exec(t, "DELETE FROM users WHERE id = $1", sender.ID))
	requireRefused(t, "transactions_recipient_id_fkey", s.Exec(t, "DELETE FROM users WHERE id = $1", recipient.ID))
}
