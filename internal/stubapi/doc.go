// Package stubapi is an API server that holds objects in memory and serves
// lists and watches of them over plain HTTP: enough for the programs that are
// measured or compared (bench, proxy/prove), and so small that it does not
// disturb that. It does not check anything, and nobody writes to it but the
// program that it is part of.
//
// Touches: one TCP port, on loopback unless a listener is passed.
package stubapi
