package upstream

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/klog/v2"
)

func TestParse(t *testing.T) {
	var sets cliflag.NamedFlagSets
	var value string
	var list []string
	sets.FlagSet("one").StringVar(&value, "value", "", "")
	sets.FlagSet("two").StringSliceVar(&list, "list", nil, "")
	if err := Parse("part", sets, []string{"--value=ours", "--list=a,b", "--value=theirs"}); err != nil {
		t.Fatal(err)
	}
	if value != "theirs" || len(list) != 2 {
		t.Errorf("value %q list %v: the operator's flag comes last and must win", value, list)
	}
	for _, bad := range []string{"--unknown=1", "value=1", "--value"} {
		if err := Parse("part", sets, []string{bad}); err == nil || !strings.Contains(err.Error(), "part flags") {
			t.Errorf("%q: error %v, want one that names the part", bad, err)
		}
	}
}

func TestRouteLogs(t *testing.T) {
	var out bytes.Buffer
	handler := slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "at" {
			return slog.Attr{} // changes with every run and edit
		}
		return a
	}})
	RouteLogs(slog.New(handler))
	klog.Info("information")
	klog.Warning("a warning")
	klog.Warningf("Skipping API %s because it has no resources.", "apps/v1beta1")
	klog.ErrorS(errors.New("cause"), "An error", "pod", "a/b")
	klog.Flush()
	const want = `level=WARN msg="a warning" part=upstream
level=ERROR msg="\"An error\" err=\"cause\" pod=\"a/b\"" part=upstream
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
