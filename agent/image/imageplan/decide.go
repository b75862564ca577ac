package imageplan

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// Reasons for which a container waits for its image, as the API knows them.
const (
	ErrImagePull      = "ErrImagePull"
	ImagePullBackOff  = "ImagePullBackOff"
	ErrImageNeverPull = "ErrImageNeverPull"
	InvalidImageName  = "InvalidImageName"
	ImageInspectError = "ImageInspectError"
)

const (
	// fresh is how long what the runtime said of an image is believed. An
	// image can go away at any time; a look at it costs less than a millisecond.
	fresh = 30 * time.Second
	// shown is how long a failed pull is shown as such before it is shown as a back-off.
	shown = 2 * time.Second

	minBackoff = 10 * time.Second
	maxBackoff = 300 * time.Second
)

// Need is the image that one start of a container wants.
type Need struct {
	Image  string
	Policy corev1.PullPolicy
	// Credentials is the key that Credentials gives.
	Credentials string
	Container   model.ContainerKey
	// Attempt is the restart count of the start.
	Attempt uint32
	// MaxBackoff replaces 5 minutes when positive.
	MaxBackoff time.Duration
}

// Verdict is how far a Need is.
type Verdict struct {
	// State is ImagePresent when the container may start with ID, ImagePulling
	// while it has to wait, ImageFailed when Reason and Message tell why it has
	// to wait, and ImageAbsent when nothing is known.
	State   model.ImageState
	ID      string
	Reason  string
	Message string
	// Ask says that the image part must be asked (image.Ensure) to get further.
	Ask bool
	// Again is when the verdict changes by itself; zero for never.
	Again time.Time
}

// Decide tells how far a need is by the table's row of its image, which may be nil.
func Decide(img *model.Image, n Need, now time.Time) Verdict {
	if img == nil {
		return Verdict{Ask: true}
	}
	pull := img.Pulls[n.Credentials]
	current := !img.Checked.IsZero() && now.Sub(img.Checked) < fresh
	attempt, served := pull.Served[n.Container]
	switch {
	case pull.State == model.ImagePulling:
		return Verdict{State: model.ImagePulling}
	case current && img.ID != "" && (n.Policy != corev1.PullAlways || served && attempt >= n.Attempt):
		return Verdict{State: model.ImagePresent, ID: img.ID}
	case current && n.Policy == corev1.PullNever:
		return Verdict{
			State: model.ImageFailed, Reason: ErrImageNeverPull, Again: img.Checked.Add(fresh),
			Message: fmt.Sprintf("Container image %q is not present with pull policy of Never", n.Image),
		}
	case pull.State == model.ImageFailed && n.Policy != corev1.PullNever:
		return failed(pull, n, now)
	}
	return Verdict{Ask: true}
}

// failed tells of a pull that failed, and to ask again after its back-off.
func failed(p model.Pull, n Need, now time.Time) Verdict {
	v := Verdict{State: model.ImageFailed, Reason: p.Reason, Message: p.Message, Again: p.Failed.Add(shown)}
	if p.Reason == InvalidImageName {
		v.Again = time.Time{} // until the pod is changed
		return v
	}
	due := p.Failed.Add(Backoff(p.Attempts, n.MaxBackoff))
	if !now.Before(due) {
		v.Ask, v.Again = true, time.Time{}
		return v
	}
	if !now.Before(v.Again) {
		v.Reason, v.Again = ImagePullBackOff, due
		v.Message = fmt.Sprintf("Back-off pulling image %q: %s: %s", n.Image, p.Reason, p.Message)
	}
	return v
}

// Backoff is the wait after the nth failure in a row: 10 s, doubled each time, up to most or 5 minutes.
func Backoff(n int, most time.Duration) time.Duration {
	if most <= 0 {
		most = maxBackoff
	}
	wait := minBackoff
	for range n - 1 {
		if wait *= 2; wait >= most {
			break
		}
	}
	return min(wait, most)
}
