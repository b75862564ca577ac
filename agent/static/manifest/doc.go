// Package manifest reads the manifest of a static pod: decodes it, fills in
// what the API server would fill in, and says what is wrong with it. It does
// not read files nor decide what becomes of the pod (agent/static does). Part
// of the flow manifest file -> Pods -> containers.
//
// Pure.
//
// Invariants: the same text, node and path always give the same UID; another
// meaning gives another UID, white space and comments do not. What Parse gives
// refers to no object of the API.
package manifest
