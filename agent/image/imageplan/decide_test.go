package imageplan

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

func TestDecide(t *testing.T) {
	now := time.Unix(1000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	me := model.ContainerKey{PodUID: "u", Name: "c"}
	served := func(attempt uint32) map[model.ContainerKey]uint32 {
		return map[model.ContainerKey]uint32{me: attempt}
	}
	here := model.Image{ID: "sha256:1", Checked: ago(time.Second)}
	with := func(i model.Image, p model.Pull) *model.Image {
		i.Pulls = map[string]model.Pull{"": p}
		return &i
	}
	failedPull := func(n int, since time.Duration) model.Pull {
		return model.Pull{State: model.ImageFailed, Attempts: n, Failed: ago(since), Reason: ErrImagePull, Message: "no such host"}
	}
	for _, c := range []struct {
		name   string
		img    *model.Image
		policy corev1.PullPolicy
		want   string
		again  time.Duration // from now
	}{
		{"unknown", nil, corev1.PullIfNotPresent, "absent ask", 0},
		{"present", &here, corev1.PullIfNotPresent, "present sha256:1", 0},
		{"looked at too long ago", &model.Image{ID: "x", Checked: ago(time.Minute)}, corev1.PullIfNotPresent, "absent ask", 0},
		{"never and present", &here, corev1.PullNever, "present sha256:1", 0},
		{"never and not there", &model.Image{Checked: ago(time.Second)}, corev1.PullNever,
			`failed ErrImageNeverPull: Container image "img" is not present with pull policy of Never`, 29 * time.Second},
		{"never after another's pull failed", with(model.Image{}, failedPull(1, time.Second)), corev1.PullNever, "absent ask", 0},
		{"always and not pulled for this start", &here, corev1.PullAlways, "absent ask", 0},
		{"always and pulled for an earlier start", with(here, model.Pull{State: model.ImagePresent, Served: served(1)}), corev1.PullAlways, "absent ask", 0},
		{"always and pulled for this start", with(here, model.Pull{State: model.ImagePresent, Served: served(2)}), corev1.PullAlways, "present sha256:1", 0},
		{"always and the pull failed though an old image is there", with(here, failedPull(1, time.Second)), corev1.PullAlways, "failed ErrImagePull: no such host", time.Second},
		{"there, though a pull failed", with(here, failedPull(1, time.Second)), corev1.PullIfNotPresent, "present sha256:1", 0},
		{"being pulled", with(model.Image{}, model.Pull{State: model.ImagePulling}), corev1.PullIfNotPresent, "pulling", 0},
		{"failed just now", with(model.Image{}, failedPull(1, 0)), corev1.PullIfNotPresent, "failed ErrImagePull: no such host", 2 * time.Second},
		{"in back-off", with(model.Image{}, failedPull(2, 3*time.Second)), corev1.PullIfNotPresent,
			`failed ImagePullBackOff: Back-off pulling image "img": ErrImagePull: no such host`, 17 * time.Second},
		{"back-off is over", with(model.Image{}, failedPull(1, 10*time.Second)), corev1.PullIfNotPresent, "failed ErrImagePull: no such host ask", 0},
		{"a bad name stays bad", with(model.Image{}, model.Pull{State: model.ImageFailed, Attempts: 1, Failed: ago(time.Hour), Reason: InvalidImageName, Message: "m"}), corev1.PullIfNotPresent, "failed InvalidImageName: m", 0},
	} {
		v := Decide(c.img, Need{Image: "img", Policy: c.policy, Container: me, Attempt: 2}, now)
		got := v.State.String()
		for _, s := range []string{v.ID, v.Reason} {
			if s != "" {
				got += " " + s
			}
		}
		if v.Message != "" {
			got += ": " + v.Message
		}
		if v.Ask {
			got += " ask"
		}
		if got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
		if again := v.Again.Sub(now); c.again != again && (c.again != 0 || !v.Again.IsZero()) {
			t.Errorf("%s: again in %s, want %s", c.name, again, c.again)
		}
	}
}

func TestBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{1: 10, 2: 20, 3: 40, 4: 80, 5: 160, 6: 300, 7: 300, 1000: 300} {
		if got := Backoff(n, 0); got != want*time.Second {
			t.Errorf("%d: %s", n, got)
		}
	}
	if got := Backoff(5, time.Minute); got != time.Minute {
		t.Errorf("got %s", got)
	}
}

func TestParse(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for ref, want := range map[string]string{
		"busybox":                          "docker.io library/busybox latest",
		"busybox:1.36":                     "docker.io library/busybox 1.36",
		"a/b":                              "docker.io a/b latest",
		"docker.io/a/b:x":                  "docker.io a/b x",
		"index.docker.io/library/x":        "docker.io library/x latest",
		"localhost/x":                      "localhost x latest",
		"localhost:5000/x:y":               "localhost:5000 x y",
		"registry.example.com/a/b/c":       "registry.example.com a/b/c latest",
		"10.0.0.1:5000/x":                  "10.0.0.1:5000 x latest",
		"[2001:db8::1]:5000/x":             "[2001:db8::1]:5000 x latest",
		"Registry/x":                       "Registry x latest",
		"example.com/x@" + digest:          "example.com x  " + digest,
		"example.com/x:tag@" + digest:      "example.com x tag " + digest,
		"example.com/a__b/c-d.e_f---g:V.1": "example.com a__b/c-d.e_f---g V.1",
	} {
		n, err := Parse(ref)
		got := strings.TrimRight(strings.Join([]string{n.Registry, n.Repository, n.Tag, n.Digest}, " "), " ")
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v", ref, got, err)
		}
	}
	for _, ref := range []string{
		"", ":tag", "x:", "x@", "x@sha256:short", "UPPER", "a/UPPER", "a//b", "/a", "a/", "a b", "a:b:c", "-a", "a/-b", "x:-t",
		"http://example.com/x", "example.com:port/x", strings.Repeat("a", 64), strings.Repeat("b/", 200) + "b", "a\nb", "x@" + digest + "\n",
	} {
		if n, err := Parse(ref); err == nil {
			t.Errorf("%q gave %+v", ref, n)
		} else if !strings.Contains(err.Error(), "couldn't parse image name") {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestWithTag(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	for ref, want := range map[string]string{"x": "x:latest", "x:1": "x:1", "h:5000/x": "h:5000/x:latest", "x" + digest: "x" + digest, "x:1" + digest: "x:1" + digest} {
		if got, err := WithTag(ref); err != nil || got != want {
			t.Errorf("%s: got %q, %v", ref, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"busybox", "a.b:1/c/d:e@sha256:00", "[::1]:5/x", "A/b", "x:y/z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		n, err := Parse(ref)
		if err != nil {
			return
		}
		canonical := n.Repo()
		if n.Tag != "" {
			canonical += ":" + n.Tag
		}
		if n.Digest != "" {
			canonical += "@" + n.Digest
		}
		again, err := Parse(canonical)
		if err != nil || again != n {
			t.Fatalf("%q is %+v, which written as %q is %+v, %v", ref, n, canonical, again, err)
		}
	})
}
