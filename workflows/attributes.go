package workflows

import (
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// The search attributes by which operators find workflows. temporal-dev.yaml
// declares the same ones; a test holds the two together.
var (
	AttrStreamID      = temporal.NewSearchAttributeKeyKeyword("StreamId")
	AttrUserID        = temporal.NewSearchAttributeKeyKeyword("UserId")
	AttrStreamStatus  = temporal.NewSearchAttributeKeyKeyword("StreamStatus")
	AttrTransactionID = temporal.NewSearchAttributeKeyKeyword("TransactionId")
	AttrPaymentStatus = temporal.NewSearchAttributeKeyKeyword("PaymentStatus")
	// The amount is in minor units; error and next try are there while it is queued.
	AttrPaymentAmount   = temporal.NewSearchAttributeKeyInt64("PaymentAmount")
	AttrPaymentCurrency = temporal.NewSearchAttributeKeyKeyword("PaymentCurrency")
	AttrPaymentError    = temporal.NewSearchAttributeKeyKeyword("PaymentError")
	AttrPaymentNextTry  = temporal.NewSearchAttributeKeyTime("PaymentNextTry")
	AttrArchiveStatus   = temporal.NewSearchAttributeKeyKeyword("ArchiveStatus")
)

// SearchAttributes lists all of them.
var SearchAttributes = []temporal.SearchAttributeKey{
	AttrStreamID, AttrUserID, AttrStreamStatus, AttrTransactionID, AttrPaymentStatus,
	AttrPaymentAmount, AttrPaymentCurrency, AttrPaymentError, AttrPaymentNextTry, AttrArchiveStatus,
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

// maxKeyword is how many bytes Temporal's databases keep of a keyword.
const maxKeyword = 255

// keyword cuts a text to what can be searched.
func keyword(text string) string {
	if len(text) <= maxKeyword {
		return text
	}
	return strings.ToValidUTF8(text[:maxKeyword], "")
}

// upsert sets search attributes. One that the namespace lacks keeps no workflow from
// its work.
func upsert(ctx workflow.Context, attributes ...temporal.SearchAttributeUpdate) {
	if err := workflow.UpsertTypedSearchAttributes(ctx, attributes...); err != nil {
		workflow.GetLogger(ctx).Error("search attributes", "error", err)
	}
}
