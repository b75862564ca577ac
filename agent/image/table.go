package image

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// note changes the pull of a key in the table.
func (m *Images) note(k key, change func(*model.Pull)) {
	m.change(k.ref, func(i *model.Image) {
		p := i.Pulls[k.credentials]
		change(&p)
		i.Pulls[k.credentials] = p
		i.Attempts, i.Failed, i.Reason, i.Message = p.Attempts, p.Failed, p.Reason, p.Message
		i.State = p.State
	})
}

// change changes a copy of an image's row and commits it.
func (m *Images) change(ref model.ImageRef, change func(*model.Image)) {
	m.deps.Images.Commit(func(tx *store.Tx[model.ImageRef, *model.Image]) {
		next := model.Image{Ref: ref}
		if old, ok := tx.Get(ref); ok {
			next = *old
		}
		next.Pulls = maps.Clone(next.Pulls)
		if next.Pulls == nil {
			next.Pulls = map[string]model.Pull{}
		}
		change(&next)
		switch {
		case next.ID != "":
			next.State = model.ImagePresent
		case next.State == model.ImagePresent:
			next.State = model.ImageAbsent
		}
		tx.Set(ref, &next)
	})
}

// prune forgets images that no pod names any more, but for the one just served.
func (m *Images) prune(keep model.ImageRef) {
	snap := m.deps.Store.Snapshot()
	if !snap.Pods.Synced() {
		return
	}
	used := map[model.ImageRef]bool{keep: true}
	for _, pod := range snap.Pods.All() {
		for _, ref := range named(pod) {
			used[model.ImageRef(ref)] = true
		}
	}
	m.deps.Images.Commit(func(tx *store.Tx[model.ImageRef, *model.Image]) {
		for ref := range snap.Images.All() {
			img, ok := tx.Get(ref)
			switch {
			case !ok:
			case !used[ref]:
				tx.Delete(ref)
			default:
				tx.Set(ref, forget(img, snap))
			}
		}
	})
}

// named gives the images that a pod names: of containers of all kinds and of image volumes.
func named(pod *corev1.Pod) []string {
	var refs []string
	for i := range pod.Spec.InitContainers {
		refs = append(refs, pod.Spec.InitContainers[i].Image)
	}
	for i := range pod.Spec.Containers {
		refs = append(refs, pod.Spec.Containers[i].Image)
	}
	for i := range pod.Spec.EphemeralContainers {
		refs = append(refs, pod.Spec.EphemeralContainers[i].Image)
	}
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].Image; v != nil {
			refs = append(refs, v.Reference)
		}
	}
	return refs
}

// forget drops the starts of pods that are gone from an image's row.
func forget(img *model.Image, snap *store.Snapshot) *model.Image {
	gone := func(c model.ContainerKey, _ uint32) bool {
		_, ok := snap.Pods.Get(c.PodUID)
		return !ok
	}
	next := *img
	next.Pulls = maps.Clone(img.Pulls)
	for credentials, p := range next.Pulls {
		p.Served = maps.Clone(p.Served)
		maps.DeleteFunc(p.Served, gone)
		next.Pulls[credentials] = p
	}
	return &next
}

// tellAll sends the same event to all who asked.
func (m *Images) tellAll(batch []request, kind, reason, message string) {
	for _, r := range batch {
		m.tell(r, kind, reason, message)
	}
}

// tell sends an event about a container to the owner of its pod.
func (m *Images) tell(r request, kind, reason, message string) {
	m.deps.Events.Event(corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: r.Pod.Namespace, Name: r.Pod.Name, UID: r.Pod.UID,
		FieldPath: fieldPath(r.Pod, r.Container),
	}, kind, reason, message)
}

// fieldPath names a container in events as the API does.
func fieldPath(pod *corev1.Pod, name string) string {
	list := "containers"
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			list = "initContainers"
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			list = "ephemeralContainers"
		}
	}
	return fmt.Sprintf("spec.%s{%s}", list, name)
}
