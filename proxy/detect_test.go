package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// fakeModes: "best" and "good" are for auto, "old" has to be asked for; those in broken do not work.
func fakeModes(broken ...string) []mode {
	var out []mode
	for _, name := range []string{"best", "good", "old"} {
		out = append(out, mode{name: name, asked: name == "old", probe: func(context.Context, Config) (bool, error) {
			if slices.Contains(broken, name) {
				return false, fmt.Errorf("no %s here", name)
			}
			return true, nil
		}})
	}
	return out
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		mode      string
		broken    []string
		want, why string
	}{
		{"", nil, "best", "the best that this kernel proved to have"},
		{Auto, []string{"best"}, "good", "the best that this kernel proved to have; not best: no best here"},
		{"good", nil, "good", "asked for"},
		{"old", []string{"best", "good"}, "old", "asked for"},
		{Auto, []string{"best", "good"}, "", "proxy mode best: no best here\nproxy mode good: no good here"},
		{"best", []string{"best"}, "", "proxy mode best: no best here"},
	} {
		_, got, err := choose(t.Context(), Config{Mode: c.mode}, fakeModes(c.broken...))
		if err != nil {
			if c.want != "" || !strings.HasSuffix(err.Error(), c.why) {
				t.Errorf("%q without %v: %v", c.mode, c.broken, err)
			}
			continue
		}
		if got.Mode != c.want || got.Why != c.why {
			t.Errorf("%q without %v: %s (%s), want %s (%s)", c.mode, c.broken, got.Mode, got.Why, c.want, c.why)
		}
	}
}

func TestCheckMode(t *testing.T) {
	for _, m := range append(Modes(), "") {
		if err := CheckMode(m); err != nil {
			t.Error(err)
		}
	}
	if err := CheckMode("magic"); err == nil || !strings.Contains(err.Error(), Nftables) {
		t.Errorf("unknown mode: %v", err)
	}
	if _, _, err := choose(t.Context(), Config{Mode: "magic"}, fakeModes()); err == nil || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("unknown mode: %v", err)
	}
}

// TestAuto: the order in which auto tries, and that it takes no mode that only
// somebody who knows why can want.
func TestAuto(t *testing.T) {
	var auto []string
	for _, m := range modes() {
		if !m.asked {
			auto = append(auto, m.name)
		}
	}
	if want := []string{Nftables, EBPF, Iptables}; !slices.Equal(auto, want) {
		t.Errorf("auto tries %v, want %v", auto, want)
	}
}
