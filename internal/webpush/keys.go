package webpush

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
)

// Keys are what pushes are signed with, so that the services of browsers know who
// sends them (VAPID, RFC 8292).
type Keys struct {
	// Public is the key that browsers subscribe with: uncompressed, in base64url.
	Public string
	// private are all keys by their public ones: a browser's service takes nothing that
	// another key has signed than the one that the browser subscribed with.
	private map[string]string
}

const makeOne = "make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"

// LoadKeys reads the current key and those before it, PKCS#8 in PEM.
func LoadKeys(file string, previous ...string) (Keys, error) {
	keys := Keys{private: map[string]string{}}
	for i, name := range append([]string{file}, previous...) {
		public, private, err := loadKey(name)
		if err != nil {
			return Keys{}, err
		}
		keys.private[public] = private
		if i == 0 {
			keys.Public = public
		}
	}
	return keys, nil
}

func loadKey(file string) (public, private string, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", "", fmt.Errorf("read the key of the pushes: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return "", "", fmt.Errorf("the key of the pushes in %s is not PEM; %s", file, makeOne)
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return "", "", fmt.Errorf("the key of the pushes in %s: %w; %s", file, err, makeOne)
	}
	key, ok := any.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return "", "", fmt.Errorf("the key of the pushes in %s is not of P-256; %s", file, makeOne)
	}
	secret, err := key.Bytes()
	if err != nil {
		return "", "", fmt.Errorf("the key of the pushes in %s: %w", file, err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return "", "", fmt.Errorf("the key of the pushes in %s: %w", file, err)
	}
	return base64.RawURLEncoding.EncodeToString(point), base64.RawURLEncoding.EncodeToString(secret), nil
}
