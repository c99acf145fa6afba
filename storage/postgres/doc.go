// Package postgres keeps LiveStream Pro's rows: one concrete type a noun, all of
// them built on a DB, each method one statement or one transaction.
//
// It knows neither Temporal nor HTTP. What a client may be told leaves it as a
// *livestream.Error; everything else is an internal error. Doing a write twice
// has the effect of doing it once, wherever a workflow may repeat it.
package postgres
