package node

import (
	"log/slog"
	"strings"
	"testing"

	"nodelet/cri"
	"nodelet/cri/critest"
)

// KEP-4033: the runtime's word counts; one that does not know the call, or does not answer, leaves it to the configuration.
func TestCgroupDriverIsTheRuntimes(t *testing.T) {
	for _, c := range []struct {
		name, configuration string
		runtime             critest.Config
		down                bool
		want, log           string
	}{
		{name: "says cgroupfs", want: driverFiles},
		{name: "says systemd", runtime: critest.Config{SystemdCgroups: true}, want: driverSystemd},
		{name: "agrees", configuration: driverSystemd, runtime: critest.Config{SystemdCgroups: true}, want: driverSystemd},
		{name: "other than configured", configuration: driverSystemd, want: driverFiles, log: "the runtime's counts"},
		{name: "does not know the call", configuration: driverSystemd, runtime: critest.Config{Unimplemented: []string{"RuntimeConfig"}}, want: driverSystemd, log: "going by cgroupDriver"},
		{name: "does not know the call, default", runtime: critest.Config{Unimplemented: []string{"RuntimeConfig"}}, want: driverFiles, log: "going by cgroupDriver"},
		{name: "is down", down: true, configuration: driverSystemd, want: driverSystemd, log: "level=WARN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.runtime.FaultRate = -1
			server := critest.New(c.runtime)
			defer server.Close()
			if c.down {
				server.Down()
			}
			var log strings.Builder
			got := cgroupDriver(c.configuration, server.Runtime(cri.Deps{}), slog.New(slog.NewTextHandler(&log, nil)))
			if got != c.want || !strings.Contains(log.String(), c.log) || c.log == "" && log.String() != "" {
				t.Errorf("%s, want %s; logged %q", got, c.want, log.String())
			}
		})
	}
}

func TestSwapIsRefusedOnlyWhereAskedFor(t *testing.T) {
	for _, c := range []struct {
		fail  bool
		bytes uint64
		ok    bool
	}{{false, 0, true}, {false, 1 << 20, true}, {true, 0, true}, {true, 1 << 20, false}} {
		err := checkSwap(c.fail, c.bytes)
		if (err == nil) != c.ok || err != nil && (!strings.Contains(err.Error(), "swapoff -a") || !strings.Contains(err.Error(), "failSwapOn: false")) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
