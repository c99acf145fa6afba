// Package postgres keeps LiveStream Pro's rows: one concrete type a noun, all of
// them built on a DB, each method one statement or one transaction.
//
// It knows neither Temporal nor HTTP. What a client may be told leaves it as a
// *livestream.Error; everything else is an internal error. Doing a write twice
// has the effect of doing it once, wherever a workflow may repeat it.
//
// What a row is dated by when it is created, and follows, is the primary's clock;
// all other times are the caller's. The two are compared in one place, which says
// what holds then: the audience of a fan-out.
package postgres
