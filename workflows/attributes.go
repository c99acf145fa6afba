package workflows

import "go.temporal.io/sdk/temporal"

// The search attributes by which operators find workflows. temporal-dev.yaml
// declares the same ones; a test holds the two together.
var (
	AttrStreamID      = temporal.NewSearchAttributeKeyKeyword("StreamId")
	AttrUserID        = temporal.NewSearchAttributeKeyKeyword("UserId")
	AttrStreamStatus  = temporal.NewSearchAttributeKeyKeyword("StreamStatus")
	AttrTransactionID = temporal.NewSearchAttributeKeyKeyword("TransactionId")
	AttrPaymentStatus = temporal.NewSearchAttributeKeyKeyword("PaymentStatus")
	AttrArchiveStatus = temporal.NewSearchAttributeKeyKeyword("ArchiveStatus")
)

// SearchAttributes lists all of them.
var SearchAttributes = []temporal.SearchAttributeKey{
	AttrStreamID, AttrUserID, AttrStreamStatus, AttrTransactionID, AttrPaymentStatus, AttrArchiveStatus,
}

// summaryTitle is how much of a title a summary holds, in characters: Temporal
// allows 400 bytes, and JSON may take six for a character.
const summaryTitle = 50

// Summary is one line for operators: what it is, and of which stream.
func Summary(what, title string) string {
	if runes := []rune(title); len(runes) > summaryTitle {
		title = string(runes[:summaryTitle-1]) + "…"
	}
	return what + " «" + title + "»"
}
