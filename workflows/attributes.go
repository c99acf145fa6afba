package workflows

import "go.temporal.io/sdk/temporal"

// The search attributes by which operators find workflows. temporal-dev.yaml
// declares the same ones; a test holds the two together.
var (
	AttrStreamID      = temporal.NewSearchAttributeKeyKeyword("StreamId")
	AttrUserID        = temporal.NewSearchAttributeKeyKeyword("UserId")
	AttrStreamStatus  = temporal.NewSearchAttributeKeyKeyword("StreamStatus")
	AttrPaymentStatus = temporal.NewSearchAttributeKeyKeyword("PaymentStatus")
	AttrArchiveStatus = temporal.NewSearchAttributeKeyKeyword("ArchiveStatus")
)

// SearchAttributes lists all of them.
var SearchAttributes = []temporal.SearchAttributeKey{
	AttrStreamID, AttrUserID, AttrStreamStatus, AttrPaymentStatus, AttrArchiveStatus,
}
