package telemetry

// NewTracerProviderWith samples as NewTracerProvider does, and keeps spans where
// a test can read them.
var NewTracerProviderWith = newTracerProvider
