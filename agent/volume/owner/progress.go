package owner

import (
	"fmt"
	"strings"
	"time"
)

// Reason is that of events about what Change.Slow is told.
const Reason = "VolumePermissionChangeInProgress"

const (
	// slowAfter is when users hear for the first time of a change that goes on.
	slowAfter = 30 * time.Second
	// slowEvery is how often they do afterwards.
	slowEvery = time.Minute
)

// progress counts what a change has passed, and tells of it when its time has come.
type progress struct {
	dir   string
	tell  func(message string)
	next  time.Time
	first bool
	files int
}

func newProgress(dir string, tell func(string), now time.Time) *progress {
	// Who reads it knows the pod by its UID, and nothing of the node's directories.
	if _, below, ok := strings.Cut(dir, "/pods/"); ok {
		dir = below
	}
	return &progress{dir: dir, tell: tell, next: now.Add(slowAfter), first: true}
}

// passed notes one file more.
func (p *progress) passed(now time.Time) {
	p.files++
	if p.tell == nil || now.Before(p.next) {
		return
	}
	p.next = now.Add(slowEvery)
	if !p.first {
		p.tell(fmt.Sprintf("Setting volume ownership for %s, processed %d files.", p.dir, p.files))
		return
	}
	p.first = false
	p.tell(fmt.Sprintf("Setting volume ownership for %s is taking longer than expected, consider using OnRootMismatch - https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#configure-volume-permission-and-ownership-change-policy-for-pods", p.dir))
}
