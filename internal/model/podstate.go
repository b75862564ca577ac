package model

import (
	"fmt"
	"time"
)

// ImageRef is an image as a pod spec names it.
type ImageRef string

// String is the reference itself.
func (r ImageRef) String() string { return string(r) }

// ImageState is what is known of one image on this node.
type ImageState uint8

// The states of an image. ImageAbsent is not an error: nobody has asked for it yet.
const (
	ImageAbsent ImageState = iota
	ImagePulling
	ImagePresent
	ImageFailed
)

// String is the state in lower case.
func (s ImageState) String() string {
	return [...]string{"absent", "pulling", "present", "failed"}[s]
}

// Image is the state of one image reference on this node.
type Image struct {
	Ref   ImageRef
	State ImageState
	// ID is the runtime's id of the image when present.
	ID string
	// Attempts counts failed pulls in a row; Failed is the time of the last one.
	Attempts int
	Failed   time.Time
	// Reason and Message explain a failure (ErrImagePull, InvalidImageName...).
	Reason  string
	Message string
}

// String is one line: reference, state, failures.
func (i *Image) String() string {
	s := fmt.Sprintf("%s %s", i.Ref, i.State)
	if i.State == ImageFailed {
		s += fmt.Sprintf(" %s x%d: %s", i.Reason, i.Attempts, i.Message)
	}
	return s
}

// VolumesState is how far the volumes of a pod are.
type VolumesState uint8

// The states of a pod's volumes. There is a row for every pod that has
// anything on this node's disk: only a missing row of a synced table means
// that all has been removed. VolumesAbsent is a row whose volumes are not yet,
// or no longer, to be used.
const (
	VolumesAbsent VolumesState = iota
	VolumesReady
	VolumesFailed
)

// String is the state in lower case.
func (s VolumesState) String() string { return [...]string{"absent", "ready", "failed"}[s] }

// PodVolumes is what the volume part says of one pod.
type PodVolumes struct {
	UID   UID
	State VolumesState
	// HostPaths gives the directory or file on the host for each volume of the
	// pod by its name, when State is VolumesReady. Volumes that no container
	// mounts are left out.
	HostPaths map[string]string
	// Message says what is missing or wrong when State is VolumesFailed, what
	// is awaited when it is VolumesAbsent, and what could not be brought up to
	// date when it is VolumesReady; empty when all is well.
	Message string
}

// String is one line: pod, state, message.
func (v *PodVolumes) String() string {
	return fmt.Sprintf("%s volumes %s %s", v.UID, v.State, v.Message)
}
