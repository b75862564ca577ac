// Command nodelet is the node daemon, the all-in-one, and the CLI that talks
// to the daemon. One file per command; nouns read, verbs write.
package main
