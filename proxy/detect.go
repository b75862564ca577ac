package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Trial is what came of asking the kernel for one mode.
type Trial struct {
	Mode string `json:"mode"`
	// IPv6: it works for IPv6 as well.
	IPv6 bool `json:"ipv6"`
	// Problem says why it cannot be used; empty when it can.
	Problem string `json:"problem,omitempty"`
}

// Choice is the mode in use, and why.
type Choice struct {
	Mode string `json:"mode"`
	IPv6 bool   `json:"ipv6"`
	Why  string `json:"why"`
	// Trials are those that were made to choose, in order.
	Trials []Trial `json:"trials"`
}

// Modes names all modes, Auto first.
func Modes() []string {
	names := []string{Auto}
	for _, m := range modes() {
		names = append(names, m.name)
	}
	return names
}

// CheckMode tells whether a mode is known; the error names those that are.
func CheckMode(name string) error {
	if name == "" || slices.Contains(Modes(), name) {
		return nil
	}
	return fmt.Errorf("unknown proxy mode %q (known: %s)", name, strings.Join(Modes(), ", "))
}

// choose tries what cfg.Mode allows, and takes the first mode that proves itself.
func choose(ctx context.Context, cfg Config, known []mode) (mode, Choice, error) {
	asked := cfg.Mode != "" && cfg.Mode != Auto
	var c Choice
	var problems []error
	for _, m := range known {
		if asked && m.name != cfg.Mode || !asked && m.asked {
			continue
		}
		ipv6, err := m.probe(ctx, cfg)
		trial := Trial{Mode: m.name, IPv6: ipv6}
		if err != nil {
			trial.Problem = err.Error()
			problems = append(problems, fmt.Errorf("proxy mode %s: %w", m.name, err))
		}
		c.Trials = append(c.Trials, trial)
		if err == nil {
			c.Mode, c.IPv6, c.Why = m.name, ipv6, reason(asked, c.Trials)
			return m, c, nil
		}
	}
	if len(problems) == 0 {
		return mode{}, c, CheckMode(cfg.Mode)
	}
	return mode{}, c, fmt.Errorf("choose proxy mode: this kernel has none that can be used: %w", errors.Join(problems...))
}

// reason says in words what led to the last trial.
func reason(asked bool, trials []Trial) string {
	if asked {
		return "asked for"
	}
	why := "the best that this kernel proved to have"
	for _, t := range trials[:len(trials)-1] {
		why += fmt.Sprintf("; not %s: %s", t.Mode, t.Problem)
	}
	return why
}

// open gives the back end for cfg.Mode, proven to work here.
func open(ctx context.Context, known []mode, cfg Config, log *slog.Logger) (Backend, Choice, error) {
	m, c, err := choose(ctx, cfg, known)
	if err != nil {
		return nil, c, err
	}
	b, err := m.open(place{cfg, c.IPv6, log})
	return b, c, err
}
