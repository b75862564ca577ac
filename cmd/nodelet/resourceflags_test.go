package main

import (
	"reflect"
	"testing"

	"github.com/spf13/pflag"

	"nodelet/node"
)

func TestResourceFlags(t *testing.T) {
	parse := func(args ...string) (node.Resources, error) {
		var r node.Resources
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		addResourceFlags(fs, &r)
		err := fs.Parse(args)
		if err == nil {
			err = r.Validate()
		}
		return r, err
	}
	if r, err := parse(); err != nil || !reflect.DeepEqual(r, node.Resources{}) {
		t.Errorf("without flags: %+v %v", r, err)
	}
	r, err := parse("--container-log-max-size=1Mi", "--eviction-hard=memory.available<1Gi, nodefs.available<10%", "--eviction-soft=pid.available<5%", "--eviction-soft-grace-period=pid.available=1m")
	if err != nil || r.ContainerLogMaxSize != 1<<20 || !reflect.DeepEqual(r.Eviction.Hard, map[string]string{"memory.available": "1Gi", "nodefs.available": "10%"}) {
		t.Errorf("%+v %v", r, err)
	}
	if r, err := parse("--eviction-hard="); err != nil || r.Eviction.Hard == nil || len(r.Eviction.Hard) != 0 {
		t.Errorf("no thresholds at all: %+v %v", r, err)
	}
	for _, bad := range [][]string{
		{"--container-log-max-size=big"}, {"--container-log-max-files=1"}, {"--eviction-hard=memory.available"}, {"--eviction-hard=memory.available>1Gi"},
		{"--eviction-hard=memory.available<1Gi,memory.available<2Gi"}, {"--eviction-hard=memory.free<1Gi"}, {"--eviction-soft=memory.available<1Gi"},
		{"--image-gc-high-threshold=50"}, {"--image-gc-low-threshold=101"}, {"--image-credential-provider-config=/x"}, {"--max-parallel-image-pulls=-1"},
	} {
		if r, err := parse(bad...); err == nil {
			t.Errorf("%q was taken as %+v", bad, r)
		}
	}
}
