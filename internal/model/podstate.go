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

// The states of an image. ImageAbsent is not an error: nobody has asked for it
// yet, or it is not there.
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

// Image is the state of one image reference on this node. Whether a container
// may start with it, and what to show while not, is agent/image/imageplan's to say.
type Image struct {
	Ref ImageRef
	// State sums up: present whenever the image is there, else what the last pull came to.
	State ImageState
	// ID is the runtime's id of the image when present.
	ID string
	// Checked is when the runtime said last whether the image is there.
	Checked time.Time
	// UID or Username is the user the image runs as; UID is nil when the image
	// names one or says nothing.
	UID      *int64
	Username string
	// Attempts, Failed, Reason and Message are those of the pull that failed
	// last, when State is ImageFailed.
	Attempts int
	Failed   time.Time
	Reason   string
	Message  string
	// Pulls has the pulls by the credentials they were tried with: what one
	// pod may pull says nothing of another.
	Pulls map[string]Pull
}

// Pull is how pulling an image with one set of credentials went.
type Pull struct {
	// State is never ImageAbsent.
	State ImageState
	// Attempts counts failures in a row; Failed is the time of the last one.
	Attempts int
	Failed   time.Time
	// Reason and Message explain a failure (ErrImagePull, InvalidImageName...).
	Reason  string
	Message string
	// Served has the restart count of the start that a pull was last made for,
	// by container: pull policy Always wants one pull for each start.
	Served map[ContainerKey]uint32
}

// ContainerKey names a container of a pod's spec.
type ContainerKey struct {
	PodUID UID
	Name   string
}

// String is one line: reference, state, id, failures.
func (i *Image) String() string {
	s := fmt.Sprintf("%s %s", i.Ref, i.State)
	if i.ID != "" {
		s += " " + i.ID
	}
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

// AttachLimit is the reason of a pod's failure when its volumes cannot be attached because the node has
// as many as its driver takes (KEP-4876).
const AttachLimit = "VolumeAttachmentLimitExceeded"

// PodVolumes is what the volume part says of one pod.
type PodVolumes struct {
	UID   UID
	State VolumesState
	// HostPaths gives the directory or file on the host for each volume of the
	// pod by its name, when State is VolumesReady. Volumes that no container
	// mounts, and image volumes, which the runtime mounts itself, are left out.
	HostPaths map[string]string
	// Devices gives the device on the host for each volume of mode Block likewise.
	Devices map[string]string
	// Claims are the claims whose volumes this pod has, or may have, on this node.
	Claims []Key
	// Refused is the reason for which the node sends the pod away again, empty
	// when it does not; Message says why.
	Refused string
	// Message says what is missing or wrong when State is VolumesFailed, what
	// is awaited when it is VolumesAbsent, and what could not be brought up to
	// date when it is VolumesReady; empty when all is well.
	Message string
}

// String is one line: pod, state, message.
func (v *PodVolumes) String() string {
	return fmt.Sprintf("%s volumes %s %s", v.UID, v.State, v.Message)
}
