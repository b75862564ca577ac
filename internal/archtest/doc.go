// Package archtest enforces what ARCHITECTURE.md promises of the structure:
// the direction of imports, package comments, the length of files and
// functions, and that docs/flows.md names things that exist. It has only tests.
package archtest
