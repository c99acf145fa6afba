// Package activities holds the side effects of the workflows, behind interfaces
// that the composition root fills in. Each method is one step that may run more
// than once and has its effect once.
//
// A struct of activities is one noun; workflows refer to its methods through a
// nil pointer of it.
package activities
