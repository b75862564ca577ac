// Package control is the daemon's unix-socket API: HTTP with JSON, used by the
// CLI. It carries values out of the daemon and a few requests in; it decides
// nothing and keeps nothing.
//
// Touches: one unix socket, readable by root only.
package control
