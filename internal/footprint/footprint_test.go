package footprint

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

func TestProgramPagesAreThoseThatNobodyCanHaveWritten(t *testing.T) {
	const exe = "/opt/nodelet/bin/nodelet"
	for line, want := range map[string]bool{
		"00400000-02a4b000 r-xp 00000000 fe:00 131 /opt/nodelet/bin/nodelet":         true,
		"02a4b000-05b1e000 r--p 0264b000 fe:00 131 /opt/nodelet/bin/nodelet":         true,
		"05b1e000-05c9f000 rw-p 0571e000 fe:00 131 /opt/nodelet/bin/nodelet":         false,
		"7f1200000000-7f1200021000 r--p 00000000 fe:00 9 /usr/lib/libc.so":           false,
		"7f1200000000-7f1200021000 r--s 00000000 fe:00 131 /opt/nodelet/bin/nodelet": false,
		"7ffd1e5c9000-7ffd1e5ea000 r-xp 00000000 00:00 0 [vdso]":                     false,
		"": false,
	} {
		if _, _, got := programPages(line, exe); got != want {
			t.Errorf("%q: %t, want %t", line, got, want)
		}
	}
	from, to, _ := programPages("00400000-02a4b000 r-xp 00000000 fe:00 131 "+exe, exe)
	if from != 0x400000 || to != 0x2a4b000 {
		t.Errorf("from %#x to %#x", from, to)
	}
}

func TestWorkIsOverWhenItIsQuietAgain(t *testing.T) {
	const mb = 1 << 20
	w := work{done: 100 * mb, seen: 100 * mb}
	for i, step := range []struct {
		total, live uint64 // MB
		want        bool
	}{
		{101, 10, false}, // nothing to speak of was done
		{140, 10, false}, // it is being done
		{141, 10, true},  // it is over
		{141, 50, false}, // a heap that is larger: not worth it yet
		{152, 50, false},
		{153, 50, true},
	} {
		if got := w.over(heap{step.total * mb, step.live * mb}); got != step.want {
			t.Errorf("step %d: %t, want %t", i, got, step.want)
		}
	}
}

func TestAllocatedCounts(t *testing.T) {
	before := allocated()
	sink = append(sink, make([]byte, 8<<20))
	runtime.GC()
	after := allocated()
	if after.total-before.total < 8<<20 || after.live < 8<<20 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	sink = nil
}

// sink keeps what is allocated from being optimised away.
var sink [][]byte

func TestTrimGivesGarbageBack(t *testing.T) {
	const size = 64 << 20
	for range size >> 20 {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = 1
		}
		sink = append(sink, b)
	}
	before := resident(t)
	sink = nil
	Trim()
	if after := resident(t); before-after < size/2 {
		t.Errorf("%d MB are resident after %d MB", after>>20, before>>20)
	}
}

// resident is the process's VmRSS in bytes.
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	f := strings.Fields(rest)
	kb, err := strconv.Atoi(f[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}
