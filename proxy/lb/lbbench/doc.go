// Package lbbench measures what a back end makes of States: a change, the
// first sync, a look at a kernel that holds everything, and the plans of those alone. It is no product code
// and measures no traffic.
//
// Touches: what the back end touches.
package lbbench
