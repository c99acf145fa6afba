// Package workflows holds the durable part of LiveStream Pro: what must outlive
// a process. Each workflow is a thin function that builds its state, registers
// its handlers and then runs the story; all side effects are activities.
//
// The code is deterministic: no clock, no random value, no goroutine, no I/O but
// through the workflow context. workflowcheck enforces it in lint, and the
// histories in testdata/replay are replayed in every test run.
package workflows
