package admission

import (
	"strings"
	"testing"
)

func TestUserIDs(t *testing.T) {
	const u = DefaultIDsPerPod
	for _, c := range []struct {
		ids  UserIDs
		pods int
		want string
	}{
		{DefaultUserIDs(u), 65535, ""},
		{DefaultUserIDs(u), 65536, "not enough"},
		{DefaultUserIDs(2 * u), 110, ""},
		{UserIDs{First: u, Count: 110 * u, PerPod: u}, 110, ""},
		{UserIDs{First: u, Count: 109 * u, PerPod: u}, 110, "not enough"},
		{UserIDs{First: 0, Count: 110 * u, PerPod: u}, 110, "the host's own"},
		{UserIDs{First: u + 1, Count: 110 * u, PerPod: u}, 110, "multiples"},
		{UserIDs{First: u, Count: 110*u + 1, PerPod: u}, 110, "multiples"},
		{UserIDs{First: u, Count: u, PerPod: 1000}, 1, "no multiple"},
		{UserIDs{}, 0, "no multiple"},
	} {
		err := c.ids.Check(c.pods)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v for %d pods: %v, want %q", c.ids, c.pods, err, c.want)
		}
	}
}

func TestSubIDs(t *testing.T) {
	const good = "root:1:1\nkubelet:65536:7208960\nother:100000:65536\n"
	if first, count, err := SubIDs("kubelet", good, good); err != nil || first != 65536 || count != 7208960 {
		t.Errorf("%d %d %v", first, count, err)
	}
	for name, texts := range map[string][2]string{
		"differ":  {good, "kubelet:131072:7208960\n"},
		"missing": {"root:1:1\n", good},
		"twice":   {good + good, good},
		"text":    {"kubelet:a:b\n", good},
		"short":   {"kubelet:1\n", good},
		"huge":    {"kubelet:65536:99999999999\n", good},
	} {
		if _, _, err := SubIDs("kubelet", texts[0], texts[1]); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzSubIDs(f *testing.F) {
	f.Add("kubelet:65536:7208960\n", "kubelet:65536:7208960\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		if _, count, err := SubIDs("kubelet", a, b); err == nil && count == 0 {
			t.Error("no ids and no error")
		}
	})
}
