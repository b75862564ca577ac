package serve

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// timerSlack is how late the kernel may be with timers, so that it wakes this process once for many of them.
	// Upstream's parts have hundreds of wake-ups a second by the clock, each for some microseconds of work and
	// several times that for waking. Measured, idle, in turns: 710 switches of threads a second and 3.0 % of a
	// core as it was, 430 and 2.1 with 5 ms, 270 and 2.0 with 10, 170 and 1.3 with 20, 75 and 1.1 with 50. What
	// comes from outside is not waited for: only timers are late, by no more than the shortest delays that
	// controllers have when they try again.
	timerSlack = 20 * time.Millisecond
	// slackPasses is how often is looked for threads that were made meanwhile by one without slack.
	slackPasses = 10
)

// slacken gives all threads of this process that much slack, and so those that come, which take it from the
// thread that makes them. It would be taken by programs that this process executes, too: there are none.
func slacken(slack time.Duration) error {
	for range slackPasses {
		changed, err := slackenOnce(strconv.FormatInt(slack.Nanoseconds(), 10))
		if err != nil || !changed {
			return err
		}
	}
	return nil
}

// slackenOnce tells whether there was a thread to change.
func slackenOnce(nanoseconds string) (changed bool, err error) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false, fmt.Errorf("list threads: %w", err)
	}
	for _, t := range threads {
		// A thread has the file in its own directory only, which no listing shows (proc(5)).
		file := filepath.Join("/proc", t.Name(), "timerslack_ns")
		old, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(old)) == nanoseconds {
			continue
		}
		if err == nil {
			err = os.WriteFile(file, []byte(nanoseconds), 0)
			changed = true
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) { // those have ended
			return changed, fmt.Errorf("set the timer slack of a thread (CAP_SYS_NICE is needed): %w", err)
		}
	}
	return changed, nil
}
