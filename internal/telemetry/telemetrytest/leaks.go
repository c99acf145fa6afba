// Package telemetrytest finds in logs what must never be in them.
package telemetrytest

import (
	"bytes"
	"fmt"
	"regexp"
)

// Secrets know themselves by their form; others are told to Leaks.
var secrets = []struct {
	what string
	form *regexp.Regexp
}{
	{"an access token", regexp.MustCompile(`eyJ[\w-]{8,}\.[\w-]+`)},
	{"an Authorization header", regexp.MustCompile(`(?i)\b(bearer|basic) +[\w.~+/-]{8,}`)},
	{"an e-mail address", regexp.MustCompile(`[\w.+-]+@([\w-]+\.)+[A-Za-z]{2,}`)},
	{"a password's hash", regexp.MustCompile(`\$argon2id?\$`)},
	{"a Stripe key", regexp.MustCompile(`\b[sr]k_(test|live)_\w+`)},
	{"a webhook's secret", regexp.MustCompile(`\bwhsec_\w+`)},
	{"a payment's client secret", regexp.MustCompile(`\bpi_\w+_secret_\w+`)},
	{"a private key", regexp.MustCompile(`PRIVATE KEY`)},
	{"a password in an address", regexp.MustCompile(`\w://[^/\s:@"]*:[^/\s@"]+@`)},
	{"a signed address", regexp.MustCompile(`(?i)x-amz-signature=\w`)},
	{"a ticket", regexp.MustCompile(`[?&]ticket=\w`)},
}

// Leaks names what is in the lines of a log and must not be there: everything
// that looks like a secret or an e-mail address, and each of the values that the
// test itself used as one. It is empty for a clean log.
func Leaks(log []byte, values ...string) []string {
	var found []string
	for i, line := range bytes.Split(log, []byte("\n")) {
		for _, secret := range secrets {
			if secret.form.Match(line) {
				found = append(found, fmt.Sprintf("line %d has %s: %s", i+1, secret.what, line))
			}
		}
		for _, value := range values {
			if value != "" && bytes.Contains(line, []byte(value)) {
				found = append(found, fmt.Sprintf("line %d has %q: %s", i+1, value, line))
			}
		}
	}
	return found
}
