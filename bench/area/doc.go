// Package area is what the harness and the areas share: an Area says who takes
// part and what is measured, a Turn is one contestant's time on a fresh node, and
// Node is that node as seen by the program that measures in it. It knows no
// figure and no peer.
//
// Flow: harness -> Area.Turns -> (in a fresh lab, a process of its own)
// Area.Measure -> Node.Add -> a line on standard output -> harness -> result.
//
// Touches: on the node it measures in: links, routes, the cgroup2 tree.
package area
