package allinone

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Step is one thing that happened on the way up.
type Step struct {
	// Name is what was done, in the words of the user.
	Name string `json:"name"`
	// Elapsed since the start.
	Elapsed time.Duration `json:"elapsed"`
	// Error is set when the step did not succeed: with the reason and the way out.
	Error string `json:"error,omitempty"`
	// Last is set on the step that completes the start.
	Last bool `json:"last,omitempty"`
}

// String is one line: the time and what was done.
func (s Step) String() string {
	if s.Error != "" {
		return fmt.Sprintf("%7.2fs  %s: %s", s.Elapsed.Seconds(), s.Name, s.Error)
	}
	return fmt.Sprintf("%7.2fs  %s", s.Elapsed.Seconds(), s.Name)
}

// Progress writes steps as JSON lines to whoever waits for the start to complete.
type Progress struct {
	start time.Time
	mu    sync.Mutex
	to    io.WriteCloser // nil once nobody listens any more
}

// NewProgress counts from now; to may be nil.
func NewProgress(to io.WriteCloser) *Progress { return &Progress{start: time.Now(), to: to} }

// Done notes a step that succeeded.
func (p *Progress) Done(format string, args ...any) {
	p.write(Step{Name: fmt.Sprintf(format, args...)})
}

// Failed notes a step that did not succeed, and ends the report.
func (p *Progress) Failed(name string, err error) {
	p.write(Step{Name: name, Error: err.Error(), Last: true})
}

// Complete notes the last step, and ends the report.
func (p *Progress) Complete(format string, args ...any) {
	p.write(Step{Name: fmt.Sprintf(format, args...), Last: true})
}

func (p *Progress) write(s Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.to == nil {
		return
	}
	s.Elapsed = time.Since(p.start)
	// Who waited may be gone: the start goes on without a listener.
	if err := json.NewEncoder(p.to).Encode(s); err != nil || s.Last {
		_ = p.to.Close()
		p.to = nil
	}
}

// Follow prints steps as they come and returns the last one; ok is false when
// the writer ended without a last step.
func Follow(from io.Reader, print func(Step)) (last Step, ok bool) {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		var s Step
		if json.Unmarshal(lines.Bytes(), &s) != nil {
			continue
		}
		print(s)
		if s.Last {
			return s, true
		}
	}
	return Step{}, false
}
