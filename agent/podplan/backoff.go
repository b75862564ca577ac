package podplan

import (
	"math"
	"strconv"
	"time"

	"nodelet/internal/model"
)

const (
	backOffFirst = 10 * time.Second
	backOffMax   = 5 * time.Minute
	// healthyRun is how long a container must have run for its crashes to be forgotten: twice the longest back-off.
	healthyRun = 10 * time.Minute
	// failureFirst and failureMax bound the wait after a call to the runtime failed.
	failureFirst = 200 * time.Millisecond
	failureMax   = 30 * time.Second
)

// doubled is first, doubled n-1 times, at most limit; 0 for n < 1.
func doubled(first, limit time.Duration, n int) time.Duration {
	if n < 1 {
		return 0
	}
	d := float64(first) * math.Pow(2, float64(min(n-1, 60)))
	return time.Duration(min(d, float64(limit)))
}

// level is the back-off level a container was created with: the number of
// restarts in quick succession before it.
func level(c *model.Container) int {
	n, err := strconv.Atoi(c.Annotations[AnnotationBackOff])
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// crashDelay is the wait between the end of a container and the start of the
// next, and the level to write on the next. The first restart is immediate,
// as is one after a healthy run.
func crashDelay(c *model.Container, limit time.Duration) (wait time.Duration, next int) {
	if !c.Started.IsZero() && c.Finished.Sub(c.Started) >= healthyRun {
		return 0, 1
	}
	l := level(c)
	return doubled(backOffFirst, limit, l), l + 1
}

// due is when a failed call may be tried again.
func (f Failure) due() time.Time {
	return f.At.Add(doubled(failureFirst, failureMax, f.Count))
}

func (s *Settings) maxBackOff() time.Duration {
	if s.MaxBackOff > 0 {
		return s.MaxBackOff
	}
	return backOffMax
}
