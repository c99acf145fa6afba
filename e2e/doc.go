// Package e2e proves that the product keeps its promises when its processes die.
// Its tests run the roles as processes of their own beside the test stack's real
// servers, drive them as clients do, kill them, and look for what was lost or
// done twice.
//
// It records the workflows' histories that package workflows replays, and runs
// the commands of docs/operations.md.
package e2e
