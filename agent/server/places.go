package server

import (
	"net/http"
	"sync"
	"time"
)

// streams counts what is open, in all and per pod.
type streams struct {
	mu       sync.Mutex
	all      int
	pods     map[string]int
	max, pod int
	running  sync.WaitGroup
}

func newStreams(max, pod int) *streams {
	return &streams{pods: map[string]int{}, max: max, pod: pod}
}

// enter takes a place for a stream; false when there is none. leave gives it back.
func (s *streams) enter(pod string) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= s.max || s.pods[pod] >= s.pod {
		return nil, false
	}
	s.all++
	s.pods[pod]++
	s.running.Add(1)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		s.pods[pod]--
		if s.pods[pod] == 0 {
			delete(s.pods, pod)
		}
		s.running.Done()
	}, true
}

// wait waits until all streams have ended, for a while: one that is just being opened in a runtime
// that does not answer notices its end only after 30 s, in the SPDY library.
func (s *streams) wait() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.running.Wait()
	}()
	timer := time.NewTimer(2 * time.Second)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

func tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	http.Error(w, "too many streams are open: end one, or wait", http.StatusTooManyRequests)
}
