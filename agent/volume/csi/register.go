package csi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// csiNodeTries bounds the attempts to write the CSINode object against other writers.
const csiNodeTries = 5

// Register takes a driver into use: asks it about this node, tells the cluster,
// and then serves volumes by it. Registering it again is how a driver that was
// restarted or upgraded says so.
func (v *Volumes) Register(ctx context.Context, name, endpoint string, versions []string) error {
	if !slices.ContainsFunc(versions, func(s string) bool { return len(s) > 1 && (s[:2] == "1." || s[:2] == "v1") }) {
		return fmt.Errorf("CSI driver %s speaks versions %v of CSI, this node version 1", name, versions)
	}
	d, err := v.dial(ctx, name, endpoint)
	if err != nil {
		return err
	}
	info, err := call(ctx, d, "NodeGetInfo", d.node.NodeGetInfo, &csipb.NodeGetInfoRequest{})
	if err == nil && info.GetNodeId() == "" {
		err = fmt.Errorf("it gives this node no id")
	}
	if err != nil {
		d.conn.Close()
		return fmt.Errorf("ask CSI driver %s about this node: %w", name, err)
	}
	if err := v.announce(ctx, name, info); err != nil {
		d.conn.Close()
		return err
	}
	d.asked.Store(time.Now().UnixNano())
	v.drivers.set(name, d)
	v.deps.Log.Info("CSI driver registered", "driver", name, "node", info.GetNodeId(), "endpoint", endpoint)
	v.deps.Registered(name)
	return nil
}

// Deregister takes a driver out of use when its socket is gone.
func (v *Volumes) Deregister(ctx context.Context, name, endpoint string) error {
	d, err := v.drivers.get(name)
	if err != nil {
		return nil
	}
	current := d.endpoint
	d.release()
	if current != endpoint {
		return nil // another instance has taken over
	}
	v.drivers.set(name, nil)
	v.deps.Log.Info("CSI driver is gone", "driver", name)
	return v.changeCSINode(ctx, func(n *storagev1.CSINode) {
		n.Spec.Drivers = slices.DeleteFunc(n.Spec.Drivers, func(e storagev1.CSINodeDriver) bool { return e.Name == name })
	})
}

// announce tells the cluster what a driver says of this node: labels of the
// topology first, because the scheduler looks at them once the driver is listed.
func (v *Volumes) announce(ctx context.Context, name string, info *csipb.NodeGetInfoResponse) error {
	segments := info.GetAccessibleTopology().GetSegments()
	node, err := v.deps.API.GetNode(ctx, v.cfg.NodeName)
	if err != nil {
		return fmt.Errorf("get node %s: %w", v.cfg.NodeName, err)
	}
	for key, value := range segments {
		if have, ok := node.Labels[key]; ok && have != value {
			return fmt.Errorf("CSI driver %s says topology %s=%s, but the node has label %s=%s", name, key, value, key, have)
		}
	}
	if len(segments) > 0 {
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": segments}})
		if err != nil {
			return err
		}
		if _, err := v.deps.API.PatchNode(ctx, v.cfg.NodeName, patch); err != nil {
			return fmt.Errorf("label node %s with the topology of CSI driver %s: %w", v.cfg.NodeName, name, err)
		}
	}
	entry := entryOf(name, info)
	return v.changeCSINode(ctx, func(n *storagev1.CSINode) {
		n.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
		i := slices.IndexFunc(n.Spec.Drivers, func(e storagev1.CSINodeDriver) bool { return e.Name == name })
		if i < 0 {
			n.Spec.Drivers = append(n.Spec.Drivers, entry)
			return
		}
		n.Spec.Drivers[i] = entry
	})
}

// entryOf is what the CSINode says of a driver.
func entryOf(name string, info *csipb.NodeGetInfoResponse) storagev1.CSINodeDriver {
	entry := storagev1.CSINodeDriver{Name: name, NodeID: info.GetNodeId(), TopologyKeys: slices.Sorted(maps.Keys(info.GetAccessibleTopology().GetSegments()))}
	if n := info.GetMaxVolumesPerNode(); n > 0 {
		count := int32(min(n, 1<<31-1))
		entry.Allocatable = &storagev1.VolumeNodeResources{Count: &count}
	}
	return entry
}

// changeCSINode edits the object, or makes it, against other writers.
func (v *Volumes) changeCSINode(ctx context.Context, change func(*storagev1.CSINode)) error {
	var err error
	for range csiNodeTries {
		if err = v.tryCSINode(ctx, change); !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("write CSINode %s: %w", v.cfg.NodeName, err)
	}
	return nil
}

func (v *Volumes) tryCSINode(ctx context.Context, change func(*storagev1.CSINode)) error {
	old, err := v.deps.API.GetCSINode(ctx, v.cfg.NodeName)
	if apierrors.IsNotFound(err) {
		n := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: v.cfg.NodeName}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{}}}
		change(n)
		_, err = v.deps.API.CreateCSINode(ctx, n)
		return err
	}
	if err != nil {
		return err
	}
	n := old.DeepCopy()
	change(n)
	if equality.Semantic.DeepEqual(old, n) {
		return nil
	}
	_, err = v.deps.API.UpdateCSINode(ctx, n)
	return err
}
