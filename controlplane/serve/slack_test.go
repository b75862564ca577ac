package serve

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSlackenIsForAllThreads: those that are there, and those that come.
func TestSlackenIsForAllThreads(t *testing.T) {
	const slack = 3 * time.Millisecond
	if err := slacken(slack); errors.Is(err, fs.ErrPermission) {
		t.Skip("the slack of other threads needs CAP_SYS_NICE:", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slacken(50 * time.Microsecond) }) // the kernel's default

	var threads sync.WaitGroup
	held := make(chan struct{})
	for range 4 {
		started := make(chan struct{})
		threads.Go(func() {
			runtime.LockOSThread() // and ends the thread, which is never given back
			close(started)
			<-held
		})
		<-started
	}
	all, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		text, err := os.ReadFile("/proc/" + one.Name() + "/timerslack_ns")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if got := strings.TrimSpace(string(text)); err != nil || got != "3000000" {
			t.Errorf("thread %s: %q, %v", one.Name(), got, err)
		}
	}
	close(held)
	threads.Wait()
}
