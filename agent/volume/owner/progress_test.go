package owner

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A change that takes long is told of after half a minute, and then each minute.
func TestSlowChangesAreTold(t *testing.T) {
	var said []string
	begin := time.Unix(1000, 0)
	p := newProgress("/var/lib/kubelet/pods/uid/volumes/x/data", func(m string) { said = append(said, m) }, begin)
	for second := range 160 {
		p.passed(begin.Add(time.Duration(second) * time.Second))
	}
	if len(said) != 3 || !strings.HasPrefix(said[0], "Setting volume ownership for uid/volumes/x/data is taking longer than expected, consider using OnRootMismatch - https://") {
		t.Fatalf("said %q", said)
	}
	if want := []string{
		"Setting volume ownership for uid/volumes/x/data, processed 91 files.", "Setting volume ownership for uid/volumes/x/data, processed 151 files.",
	}; !slices.Equal(said[1:], want) {
		t.Errorf("said %q", said[1:])
	}
}
