package kube

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/rest"

	"nodelet/internal/model"
	"nodelet/internal/store"
	"nodelet/internal/stubapi"
)

// TestReflectsServiceCIDRs: what is no range is left out; objects come and go.
func TestReflectsServiceCIDRs(t *testing.T) {
	api, err := stubapi.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	o := &networkingv1.ServiceCIDR{}
	o.Name, o.UID = "kubernetes", "1"
	o.Spec.CIDRs = []string{"10.96.0.0/16", "fd96::1/112", "no range", "::ffff:10.0.0.0/104"}
	if err := api.Put(o); err != nil {
		t.Fatal(err)
	}
	s, stop := reflectCIDRs(t, api.URL())
	defer stop()
	key := model.Key{Name: "kubernetes"}
	snap := until(t, s, "the object", func(n *store.Snapshot) bool { return n.ServiceCIDRs.Len() == 1 })
	got, _ := snap.ServiceCIDRs.Get(key)
	if want := (model.ServiceCIDR{Name: "kubernetes", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd96::/112")}}); got.String() != want.String() {
		t.Errorf("%s, not %s", got, &want)
	}
	if err := api.Delete(o); err != nil {
		t.Fatal(err)
	}
	until(t, s, "its end", func(n *store.Snapshot) bool { return n.ServiceCIDRs.Len() == 0 })
}

// TestServiceCIDRsNotServed: an API server that does not know the kind is no trouble.
func TestServiceCIDRsNotServed(t *testing.T) {
	asked := make(chan struct{}, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/apis/networking.k8s.io/v1/servicecidrs" {
			asked <- struct{}{}
		}
		http.NotFound(w, r)
	}))
	defer srv.Close()
	s, stop := reflectCIDRs(t, srv.URL)
	<-asked
	<-asked // and again
	stop()
	if s.Snapshot().ServiceCIDRs.Synced() {
		t.Error("the table is synced")
	}
}

func reflectCIDRs(t *testing.T, url string) (*store.Store, func()) {
	t.Helper()
	client, err := New(&rest.Config{Host: url})
	if err != nil {
		t.Fatal(err)
	}
	s, w := store.New()
	r := &Reflector{Client: client, Log: slog.New(slog.DiscardHandler), Node: "n", Store: s, Writers: w, ServiceCIDRs: true}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	return s, func() {
		cancel()
		<-done
	}
}
