// Package atomic writes the files of a volume so that a reader sees all of the
// old ones or all of the new ones, also after a crash at any step. It does not
// decide what to write (agent/volume/volumeplan does). Part of the flow
// volumeplan.Payload -> Write -> the directory that containers mount.
//
// Touches: the files below the one directory it is given, never through a link that leads out of it.
//
// The layout is upstream's, because programs watch it: the files are in a
// directory named after the time, the link ..data leads to it, and each name
// that users see is a link through ..data:
//
//	..2026_11_21_11_34_05.000000000/ca.crt
//	..data -> ..2026_11_21_11_34_05.000000000
//	ca.crt -> ..data/ca.crt
//
// Invariants: ..data changes by one rename, after the new files are complete
// and every new name is there, and before old names go; what a crash left
// behind is cleared by the next Write; a Write of what is already there
// changes nothing.
package atomic
