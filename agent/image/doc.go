// Package image sees to it that the images containers need are on this node:
// it asks the runtime whether they are, pulls them, keeps store.Images, and
// removes images that nobody uses (Collector). It does not decide when a
// container may start or a pull be tried again (agent/image/imageplan does),
// nor what is to be removed (agent/image/gcplan does). Part of the flow
// podplan.EnsureImage -> Images.Ensure -> runtime -> store.Images -> podplan.
//
// Touches: the runtime's image service.
//
// Invariants:
//   - Pulls of one image with the same credentials never run at the same time;
//     whoever asks while one runs gets another only where pull policy Always says so.
//   - A look whether an image is there never waits for a pull.
//   - What one pod's credentials could pull makes no promise to another's.
//   - Ensure decides nothing and returns at once; what became of it is in the table.
package image
