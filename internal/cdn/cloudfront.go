// Package cdn signs what lets viewers have private media from CloudFront.
package cdn

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/cloudfront/sign"
)

// Config is a CloudFront distribution's, before the API's /media.
type Config struct {
	// KeyPairID is the id of a public key in a key group that the distribution trusts.
	KeyPairID string
	// PrivateKeyFile has its private key, RSA in PEM.
	PrivateKeyFile string
	// Domain is one that the API and the distribution are both below, so that a cookie
	// of the one reaches the other; empty when they are the same host.
	Domain string
}

// CloudFront signs cookies.
type CloudFront struct{ signer *sign.CookieSigner }

// NewCloudFront reads the key.
func NewCloudFront(config Config) (*CloudFront, error) {
	key, err := readKey(config.PrivateKeyFile)
	if err != nil {
		return nil, fmt.Errorf("cloudfront's key in %s: %w", config.PrivateKeyFile, err)
	}
	return &CloudFront{sign.NewCookieSigner(config.KeyPairID, key, func(o *sign.CookieOptions) {
		// A page of another site plays too, where its origin is let in by CORS.
		o.Domain, o.Secure, o.SameSite = config.Domain, true, http.SameSiteNoneMode
	})}, nil
}

// readKey takes both forms that openssl writes.
func readKey(file string) (*rsa.PrivateKey, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if key, err := sign.LoadPEMPrivKey(bytes.NewReader(content)); err == nil {
		return key, nil
	}
	any, err := sign.LoadPEMPrivKeyPKCS8(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	key, ok := any.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("it is not RSA; make one with: openssl genrsa 2048")
	}
	return key, nil
}

// Cookies let a browser have everything that is below an address, until a time.
// Path is where it sends them to.
func (c *CloudFront) Cookies(below, path string, until time.Time) ([]*http.Cookie, error) {
	policy := &sign.Policy{Statements: []sign.Statement{{
		Resource: below + "*", Condition: sign.Condition{DateLessThan: sign.NewAWSEpochTime(until)},
	}}}
	cookies, err := c.signer.SignWithPolicy(policy, func(o *sign.CookieOptions) { o.Path, o.Expires = path, until })
	if err != nil {
		return nil, fmt.Errorf("sign cloudfront's cookies: %w", err)
	}
	return cookies, nil
}
