// Package result is the one form of what the benches measure: figures by
// contestant, with goals, as a table, as JSON and as Markdown, and the change
// between two runs. It does not measure anything.
//
// Flow: an area's samples -> Area.Add -> File.Print and File.Write; later
// Compare and Markdown from the file.
//
// Touches: files it is told to; /proc and the programs' --version for Facts.
package result
