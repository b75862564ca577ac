// Package nodelog answers queries for the logs of services of the machine (KEP-2258): from the journal
// where systemd keeps it, else from the service's file below /var/log.
//
// It does not decide who may ask, nor serve files by their paths: agent/server does.
//
// Flow: a request for /logs/?query=SERVICE -> Parse (pure) -> Query.Check (pure) -> Reader.Copy.
//
// Touches: the program journalctl, files below the log directory.
//
// Invariants:
//   - No shell. What a client says is a part of one argument that begins with the option's name, and
//     never an argument of its own: no value can become an option (class of CVE-2024-9042).
//   - Files are opened below the log directory only, whatever links lie in it.
//   - A query ends after 30 s, and only a few run at a time.
package nodelog
