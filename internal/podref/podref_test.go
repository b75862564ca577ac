package podref

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const everywhere = `
metadata: {name: p, namespace: ns}
spec:
  imagePullSecrets: [{name: pull}, {name: ""}]
  volumes:
  - {name: a, configMap: {name: vol-cm, optional: true}}
  - {name: b, secret: {secretName: vol-secret}}
  - {name: c, emptyDir: {}}
  - name: d
    projected:
      sources:
      - serviceAccountToken: {path: token}
      - configMap: {name: kube-root-ca.crt}
      - secret: {name: projected-secret}
      - downwardAPI: {}
  initContainers:
  - name: i
    envFrom: [{configMapRef: {name: init-from}}]
  containers:
  - name: m
    envFrom: [{secretRef: {name: from-secret}}]
    env:
    - {name: PLAIN, value: x}
    - {name: A, valueFrom: {configMapKeyRef: {name: vol-cm, key: k}}}
    - {name: B, valueFrom: {secretKeyRef: {name: env-secret, key: k}}}
    - {name: C, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  ephemeralContainers:
  - name: e
    env: [{name: A, valueFrom: {configMapKeyRef: {name: debug-env, key: k}}}]
`

func TestReferencesFindsEveryPlace(t *testing.T) {
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict([]byte(everywhere), &pod); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range References(&pod) {
		got = append(got, k.String())
	}
	want := []string{
		"ConfigMap/ns/debug-env",
		"ConfigMap/ns/init-from",
		"ConfigMap/ns/kube-root-ca.crt",
		"ConfigMap/ns/vol-cm",
		"Secret/ns/env-secret",
		"Secret/ns/from-secret",
		"Secret/ns/projected-secret",
		"Secret/ns/pull",
		"Secret/ns/vol-secret",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func TestReferencesOfAnEmptyPod(t *testing.T) {
	if got := References(&corev1.Pod{}); len(got) != 0 {
		t.Fatalf("got %v", got)
	}
}
