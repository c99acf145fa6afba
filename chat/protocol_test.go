package chat

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	livestream "github.com/livestream-pro/livestream-pro"
)

func TestFramesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	require.JSONEq(t, `{"events":[]}`, string(frame()))
	require.Equal(t, `{"events":[{"id":1},{"id":2}]}`, string(frame(json.RawMessage(`{"id":1}`), json.RawMessage(`{"id":2}`))))
}

// The corpus is in testdata/fuzz/FuzzParseMessage.
func FuzzParseMessage(f *testing.F) {
	codes := map[string]bool{codeTooLong: true, codeEmpty: true, codeMalformed: true}
	f.Fuzz(func(t *testing.T, content []byte) {
		m, refusal := parseMessage(content)
		if refusal != nil {
			require.True(t, codes[refusal.Code], refusal.Code)
			require.NotEmpty(t, refusal.Detail)
			require.LessOrEqual(t, len(refusal.Nonce), maxNonce)
			require.True(t, json.Valid(event(refusal)))
			return
		}
		// What is accepted can be shown and stored as it is.
		require.True(t, json.Valid(content))
		require.NotEmpty(t, m.Text)
		require.Equal(t, strings.TrimSpace(m.Text), m.Text)
		require.LessOrEqual(t, utf8.RuneCountInString(m.Text), livestream.MaxChatText)
		require.True(t, utf8.ValidString(m.Text) && norm.NFC.IsNormalString(m.Text))
		require.LessOrEqual(t, len(m.Nonce), maxNonce)
		for _, r := range m.Text {
			require.False(t, r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0), "control character %U", r)
		}
	})
}
