// Package livestream is the domain of LiveStream Pro: its types, its rules and
// its error codes.
//
// Everything here is plain data and pure functions over the standard library
// and uuid. It knows no database, no queue and no protocol, and imports none of
// the project's other packages, so that each of those can import it.
package livestream
