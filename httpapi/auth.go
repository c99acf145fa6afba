package httpapi

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Tokens makes and checks tokens.
type Tokens interface {
	Issue(identity livestream.Identity) (access string, err error)
	Verify(access string) (livestream.Identity, error)
	NewRefresh() (token string, hash []byte)
	Successor(token string) (next string, hash []byte)
	HashRefresh(token string) []byte
	JWKS() []livestream.JWK
	GrantMedia(userID uuid.UUID) (grant string, until time.Time, err error)
	VerifyMedia(grant string) (uuid.UUID, error)
}

// Passwords hashes passwords. Verifying against the empty hash costs as much as
// against any other.
type Passwords interface {
	Hash(ctx context.Context, password string) (string, error)
	Verify(ctx context.Context, password, hash string) (bool, error)
}

// Sessions stores logins.
type Sessions interface {
	Create(ctx context.Context, token livestream.RefreshToken) error
	Rotate(ctx context.Context, oldHash []byte, next livestream.RefreshToken, now time.Time) (livestream.RefreshToken, livestream.Role, error)
	Revoke(ctx context.Context, hash []byte) (family uuid.UUID, err error)
}

// Logouts tells the chat nodes that a login has ended.
type Logouts interface {
	PublishLogout(ctx context.Context, family uuid.UUID) error
}

func (s *Server) Register(ctx context.Context, request RegisterRequestObject) (RegisterResponseObject, error) {
	hash, err := s.deps.Passwords.Hash(ctx, request.Body.Password)
	if err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	user, err := s.deps.Users.Create(ctx, livestream.NewUser{
		ID: id, Username: request.Body.Username, Email: request.Body.Email,
		DisplayName: value(request.Body.DisplayName, request.Body.Username), PasswordHash: hash,
	})
	if err != nil {
		return nil, err
	}
	session, err := s.logIn(ctx, user)
	return Register201JSONResponse(session), err
}

func (s *Server) Login(ctx context.Context, request LoginRequestObject) (LoginResponseObject, error) {
	if err := s.limitAccount(ctx, request.Body.Email); err != nil {
		return nil, err
	}
	known, err := s.deps.Users.CredentialsByEmail(ctx, request.Body.Email)
	if err != nil && livestream.CodeOf(err) != livestream.CodeUserNotFound {
		return nil, err
	}
	// An unknown account has the empty hash: the answer and its time are the same.
	ok, err := s.deps.Passwords.Verify(ctx, request.Body.Password, known.PasswordHash)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, livestream.Errorf(livestream.CodeInvalidCredentials, "the e-mail address or the password is wrong")
	}
	user, err := s.deps.Users.ByID(ctx, known.UserID)
	if err != nil {
		return nil, err
	}
	session, err := s.logIn(ctx, user)
	return Login200JSONResponse(session), err
}

// logIn begins a family of refresh tokens.
func (s *Server) logIn(ctx context.Context, user livestream.User) (Session, error) {
	family, err := uuid.NewV7()
	if err != nil {
		return Session{}, err
	}
	refresh, hash := s.deps.Tokens.NewRefresh()
	err = s.deps.Sessions.Create(ctx, livestream.RefreshToken{
		Hash: hash, FamilyID: family, UserID: user.ID, ExpiresAt: s.deps.Now().Add(livestream.RefreshTokenLifetime),
	})
	if err != nil {
		return Session{}, err
	}
	return s.session(user, livestream.Identity{UserID: user.ID, Role: user.Role, FamilyID: family}, refresh)
}

func (s *Server) session(user livestream.User, identity livestream.Identity, refresh string) (Session, error) {
	access, err := s.deps.Tokens.Issue(identity)
	if err != nil {
		return Session{}, err
	}
	return Session{
		User: meOf(user), AccessToken: access, RefreshToken: refresh,
		TokenType: SessionTokenTypeBearer, ExpiresIn: int(livestream.AccessTokenLifetime.Seconds()),
	}, nil
}

func (s *Server) Refresh(ctx context.Context, request RefreshRequestObject) (RefreshResponseObject, error) {
	old := request.Body.RefreshToken
	next, hash := s.deps.Tokens.Successor(old)
	now := s.deps.Now()
	stored, role, err := s.deps.Sessions.Rotate(ctx, s.deps.Tokens.HashRefresh(old),
		livestream.RefreshToken{Hash: hash, ExpiresAt: now.Add(livestream.RefreshTokenLifetime)}, now)
	if livestream.CodeOf(err) == livestream.CodeRefreshTokenReused {
		s.closeSockets(ctx, stored.FamilyID)
	}
	if err != nil {
		return nil, err
	}
	user, err := s.deps.Users.ByID(ctx, stored.UserID)
	if err != nil {
		return nil, err
	}
	session, err := s.session(user, livestream.Identity{UserID: user.ID, Role: role, FamilyID: stored.FamilyID}, next)
	return Refresh200JSONResponse(session), err
}

func (s *Server) Logout(ctx context.Context, request LogoutRequestObject) (LogoutResponseObject, error) {
	family, err := s.deps.Sessions.Revoke(ctx, s.deps.Tokens.HashRefresh(request.Body.RefreshToken))
	if err != nil {
		return nil, err
	}
	s.closeSockets(ctx, family)
	return Logout204Response{}, nil
}

// closeSockets ends what a login opened. The login itself has ended already: with
// Redis away its sockets stay until they are closed.
func (s *Server) closeSockets(ctx context.Context, family uuid.UUID) {
	if family == uuid.Nil {
		return
	}
	ctx, cancel := briefly(ctx)
	defer cancel()
	if err := s.deps.Logouts.PublishLogout(ctx, family); err != nil && !errors.Is(err, context.Canceled) {
		s.deps.Log.Warn("tell of a logout", zap.Error(err))
	}
}

func (s *Server) GetJWKS(context.Context, GetJWKSRequestObject) (GetJWKSResponseObject, error) {
	var keys JWKS
	for _, key := range s.deps.Tokens.JWKS() {
		keys.Keys = append(keys.Keys, struct {
			Alg string `json:"alg"`
			Crv string `json:"crv"`
			Kid string `json:"kid"`
			Kty string `json:"kty"`
			Use string `json:"use"`
			X   string `json:"x"`
		}{Alg: key.Alg, Crv: key.Curve, Kid: key.KeyID, Kty: key.KeyType, Use: key.Use, X: key.X})
	}
	return GetJWKS200JSONResponse(keys), nil
}
