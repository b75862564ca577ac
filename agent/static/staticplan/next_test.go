package staticplan

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"nodelet/agent/static/manifest"
	"nodelet/internal/model"
)

func pod(name, hash string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: name, UID: types.UID(hash), Annotations: map[string]string{manifest.HashAnnotation: hash},
	}}
}

func ended(p *corev1.Pod) *corev1.Pod {
	now := metav1.Now()
	p.DeletionTimestamp = &now
	return p
}

func TestNext(t *testing.T) {
	for name, c := range map[string]struct {
		rows  []Row
		found []Found
		want  string
	}{
		"new":          {found: []Found{{Place: "a", Pod: pod("web", "1")}}, want: "add default/web uid=1 from a\n"},
		"same":         {rows: []Row{{pod("web", "1"), "a"}}, found: []Found{{Place: "a", Pod: pod("web", "1")}}},
		"gone":         {rows: []Row{{pod("web", "1"), "a"}}, want: "end 1\n"},
		"changed":      {rows: []Row{{pod("web", "1"), "a"}}, found: []Found{{Place: "a", Pod: pod("web", "2")}}, want: "end 1\nwait a\n"},
		"still ending": {rows: []Row{{ended(pod("web", "1")), "a"}}, found: []Found{{Place: "a", Pod: pod("web", "2")}}, want: "wait a\n"},
		"renamed": {
			rows: []Row{{pod("web", "1"), "a"}}, found: []Found{{Place: "a", Pod: pod("www", "2")}},
			want: "add default/www uid=2 from a\nend 1\n",
		},
		"back while ending": {rows: []Row{{ended(pod("web", "1")), "a"}}, found: []Found{{Place: "a", Pod: pod("web", "1")}}, want: "wait a\n"},
		"unreadable keeps": {
			rows: []Row{{pod("web", "1"), "a"}}, found: []Found{{Place: "a", Err: errors.New("line 3: tabs")}, {Place: "b", Pod: pod("db", "2")}},
			want: "add default/db uid=2 from b\nproblem a: line 3: tabs\n",
		},
		"moved while the old is unreadable": {
			rows: []Row{{pod("web", "1"), "a"}}, found: []Found{{Place: "a", Err: errors.New("no")}, {Place: "b", Pod: pod("web", "2")}},
			want: "end 1\nwait b\nproblem a: no\n",
		},
		"twice": {
			found: []Found{{Place: "a", Pod: pod("web", "1")}, {Place: "b", Pod: pod("web", "2")}},
			want:  "add default/web uid=1 from a\nproblem b: pod default/web is in a too: the first by name counts\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Next(c.rows, c.found).String(); got != c.want {
				t.Errorf("got:\n%swant:\n%s", got, c.want)
			}
		})
	}
}

// Whatever comes and goes, and however long pods take to end: no two pods of a
// name, no two of a UID, nobody ends whose manifest is there, and in the end
// exactly those are there whose manifests are.
func TestNextLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var rows []Row
		files := map[string]Found{}
		round := func() Change {
			var found []Found
			for _, place := range []string{"a", "b", "c"} {
				if f, ok := files[place]; ok {
					found = append(found, f)
				}
			}
			c := Next(rows, found)
			for i := range rows {
				for _, uid := range c.End {
					if model.UID(rows[i].Pod.UID) == uid {
						if !rows[i].live() {
							t.Fatalf("%s is ended twice", uid)
						}
						p := *rows[i].Pod
						rows[i].Pod = ended(&p)
					}
				}
			}
			rows = append(rows, c.Add...)
			names, uids := map[model.Key]bool{}, map[model.UID]bool{}
			for _, r := range rows {
				if names[keyOf(r.Pod)] || uids[model.UID(r.Pod.UID)] {
					t.Fatalf("two of %s %s: %v", keyOf(r.Pod), r.Pod.UID, rows)
				}
				names[keyOf(r.Pod)], uids[model.UID(r.Pod.UID)] = true, true
			}
			return c
		}
		leave := func() {
			var left []Row
			for _, r := range rows {
				if r.live() {
					left = append(left, r)
				}
			}
			rows = left
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				place := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "place")
				name := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name")
				version := rapid.IntRange(1, 2).Draw(t, "version")
				files[place] = Found{Place: place, Pod: pod(name, fmt.Sprint(place, name, version))}
			},
			"break": func(t *rapid.T) {
				p := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "place")
				files[p] = Found{Place: p, Err: errors.New("bad")}
			},
			"remove": func(t *rapid.T) { delete(files, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "place")) },
			"leave":  func(*rapid.T) { leave() },
			"":       func(*rapid.T) { round() },
		})
		for place, f := range files {
			if f.Err != nil {
				delete(files, place)
			}
		}
		for range 3 {
			round()
			leave()
		}
		c := round()
		names := map[string]bool{}
		for _, f := range files {
			names[f.Pod.Name] = true
		}
		if len(rows) != len(names) || len(c.Add)+len(c.End)+len(c.Wait) > 0 {
			t.Fatalf("not settled: rows %v, files %v, change %s", rows, files, c)
		}
	})
}

func TestMirrorOf(t *testing.T) {
	node := &model.Node{Name: "n", UID: "node-uid"}
	image := func(hash string) *corev1.Pod {
		p := pod("web", "api-uid")
		p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: hash}
		return p
	}
	running := pod("web", "1")
	running.Status.Phase = corev1.PodRunning
	for name, c := range map[string]struct {
		pod, image *corev1.Pod
		node       *model.Node
		want       string
	}{
		"missing":             {pod: pod("web", "1"), node: node, want: "create 1"},
		"no node yet":         {pod: pod("web", "1"), want: "nothing"},
		"ending makes none":   {pod: ended(pod("web", "1")), node: node, want: "nothing"},
		"there":               {pod: pod("web", "1"), image: image("1"), node: node, want: "nothing"},
		"status":              {pod: running, image: image("1"), node: node, want: "patch"},
		"ending is told":      {pod: ended(running.DeepCopy()), image: image("1"), node: node, want: "patch"},
		"of an older version": {pod: pod("web", "2"), image: image("1"), node: node, want: "delete api-uid"},
		"deleted by somebody": {pod: pod("web", "1"), image: ended(image("1")), node: node, want: "delete api-uid"},
		"nobody's":            {image: image("1"), node: node, want: "delete api-uid"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := MirrorOf(c.pod, c.image, c.node).String(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	made := MirrorOf(pod("web", "1"), nil, node).Create
	if o := made.OwnerReferences; len(o) != 1 || o[0].UID != "node-uid" || o[0].Controller == nil || !*o[0].Controller || made.UID != "" {
		t.Errorf("image %+v", made.ObjectMeta)
	}
}
