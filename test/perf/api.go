package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// api is the API server of a cluster, asked by plain HTTP: nothing between the wire and the clock.
type api struct {
	client *http.Client
	server string
}

// kubeconfig is what is read of one.
type kubeconfig struct {
	Clusters []struct {
		Cluster struct {
			Server string `json:"server"`
			CA     []byte `json:"certificate-authority-data"`
		} `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		User struct {
			Cert []byte `json:"client-certificate-data"`
			Key  []byte `json:"client-key-data"`
		} `json:"user"`
	} `json:"users"`
}

func (c *cluster) api() (*api, error) {
	b, err := os.ReadFile(filepath.Join(c.data(), "admin.kubeconfig"))
	if err != nil {
		return nil, err
	}
	var k kubeconfig
	if err := yaml.Unmarshal(b, &k); err != nil {
		return nil, err
	}
	if len(k.Clusters) == 0 || len(k.Users) == 0 {
		return nil, errors.New("admin.kubeconfig names no cluster or user")
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(k.Clusters[0].Cluster.CA)
	pair, err := tls.X509KeyPair(k.Users[0].User.Cert, k.Users[0].User.Key)
	if err != nil {
		return nil, err
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, ForceAttemptHTTP2: true}
	return &api{client: &http.Client{Transport: tr}, server: k.Clusters[0].Cluster.Server}, nil
}

// do sends a request and decodes the answer into into, unless that is nil.
func (a *api) do(ctx context.Context, method, path string, body, into any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.server+path, r)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// waitFor waits until an object is there.
func (a *api) waitFor(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := a.do(ctx, http.MethodGet, path, nil, nil)
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// event is one of a watch.
type event[T any] struct {
	Type   string `json:"type"`
	Object T      `json:"object"`
}

// watch calls fn for each event until it returns false.
func watch[T any](ctx context.Context, a *api, path string, fn func(event[T]) bool) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.server+path, nil)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("watch %s: %s", path, resp.Status)
	}
	for d := json.NewDecoder(resp.Body); ; {
		var e event[T]
		if err := d.Decode(&e); err != nil {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		if !fn(e) {
			return nil
		}
	}
}

// watchNode returns as soon as the node is Ready.
func (a *api) watchNode(ctx context.Context, name string) error {
	return watch(ctx, a, "/api/v1/nodes?watch=true&fieldSelector=metadata.name%3D"+name, func(e event[corev1.Node]) bool {
		for _, c := range e.Object.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return false
			}
		}
		return true
	})
}

// renewed tells whether the node's Lease was renewed after a time: a node that was stopped is still
// Ready in the API for a while, and only this tells that its daemon is at work again.
func (a *api) renewed(ctx context.Context, name string, after time.Time) bool {
	var l coordinationv1.Lease
	err := a.do(ctx, http.MethodGet, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/"+name, nil, &l)
	return err == nil && l.Spec.RenewTime != nil && l.Spec.RenewTime.After(after)
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"bench": "pod"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "hello", Image: "nodelet.local/hello:1", ImagePullPolicy: corev1.PullNever,
		}}},
	}
}
