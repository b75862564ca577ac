// Package supervise keeps one child program running: the bundled control
// plane. A child that was started by an earlier daemon and still runs is
// adopted, so that a crash of the daemon does not take the API server along.
// It does not know what the program does.
//
// Touches: processes, one pid file, one log file.
package supervise
