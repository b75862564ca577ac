package podplan

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

func TestImageVolumeIsMountedByTheRuntime(t *testing.T) {
	at := time.Unix(1000, 0)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "data:1"}}}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "img:1", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v", SubPath: "sub"}}}}
	s, w := store.New()
	w.Pods.Replace(map[model.UID]*corev1.Pod{"u": pod})
	w.Services.Replace(nil)
	w.Runtime.Replace(map[model.UID]*model.PodRuntime{"u": {UID: "u", Sandboxes: []model.Sandbox{{ID: "sb", Ready: true}}}})
	w.Volumes.Replace(map[model.UID]*model.PodVolumes{"u": {UID: "u", State: model.VolumesReady}})
	for _, ref := range []model.ImageRef{"img:1", "data:1"} {
		w.Images.Set(ref, &model.Image{Ref: ref, State: model.ImagePresent, ID: "sha256:" + string(ref), Checked: at})
	}
	f := &maker{Facts: Facts{UID: "u", World: s.Snapshot(), Settings: &Settings{}}, now: at, obj: pod, waits: map[string]waiting{}}
	f.rt = f.runtime()
	c := ctr{Container: &pod.Spec.Containers[0]}
	all, ready := f.images(c, 0)
	if !ready || all.own != "sha256:img:1" {
		t.Fatalf("images %+v, ready %t", all, ready)
	}
	mounts, subs, err := f.mounts(c, nil, all.volumes)
	if err != nil || len(mounts) != 1 || len(subs) != 0 {
		t.Fatalf("mounts %v, sub paths %v, %v", mounts, subs, err)
	}
	m := mounts[0]
	if m.GetImage().GetImage() != "sha256:data:1" || m.ImageSubPath != "sub" || m.ContainerPath != "/v" || m.HostPath != "" || !m.Readonly {
		t.Errorf("got %v", m)
	}
}
