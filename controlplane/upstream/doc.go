// Package upstream holds what all three upstream components need when they run
// in one process: parsing their flags and joining their log to ours.
//
// It does not run them: packages apiserver, controllers and scheduler do.
//
// Part of the flow "serve".
//
// Touches: klog's process-wide settings, once, in RouteLogs.
package upstream
