// Package preflight looks at the machine before anything is started, and says
// what would go wrong, why, and how to mend it. It changes nothing.
//
// Touches: reads /proc, /sys, the file system; opens no socket.
package preflight
