package stubapi

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestListAndWatch: a list has what is there, and a watch what happens after it, in order.
func TestListAndWatch(t *testing.T) {
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	service := func(name string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}}
	}
	if err := s.Put(service("a")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(s.URL() + "/api/v1/services")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var list corev1.ServiceList
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil || len(list.Items) != 1 {
		t.Fatalf("%d items, %v", len(list.Items), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/api/v1/services?watch=1&resourceVersion="+list.ResourceVersion, nil)
	if err != nil {
		t.Fatal(err)
	}
	watch, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Body.Close()
	for _, do := range []func() error{
		func() error { return s.Put(service("b")) }, func() error { return s.Put(service("a")) },
		func() error { return s.Delete(service("a")) }, func() error { return s.Delete(service("nobody")) },
		func() error { return s.Put(service("a")) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for lines := bufio.NewScanner(watch.Body); len(got) < 4 && lines.Scan(); {
		var e struct {
			Type   string
			Object metav1.PartialObjectMetadata
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Type+" "+e.Object.Name)
	}
	if want := "ADDED b,MODIFIED a,DELETED a,ADDED a"; strings.Join(got, ",") != want {
		t.Errorf("events %v, want %s", got, want)
	}
	if err := s.Put(&corev1.Secret{}); err == nil {
		t.Error("took a kind that is not served")
	}
}
