package volume

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	storagev1 "k8s.io/api/storage/v1"

	"nodelet/agent/volume/csi"
	"nodelet/agent/volume/csi/csitest"
	"nodelet/internal/model"
)

// limit is how many volumes the CSINode says the driver takes.
func (d *driven) limit() int32 {
	d.api.mu.Lock()
	defer d.api.mu.Unlock()
	if d.api.csiNode == nil || len(d.api.csiNode.Spec.Drivers) == 0 || d.api.csiNode.Spec.Drivers[0].Allocatable == nil {
		return 0
	}
	return *d.api.csiNode.Spec.Drivers[0].Allocatable.Count
}

func every(seconds int64) storagev1.CSIDriverSpec {
	return storagev1.CSIDriverSpec{NodeAllocatableUpdatePeriodSeconds: &seconds}
}

// KEP-4876: a driver is asked again how many volumes it takes, as often as its CSIDriver says.
func TestALimitThatMoves(t *testing.T) {
	d := newDriven(t, csitest.Config{FaultRate: -1, MaxVolumes: 7}, storagev1.CSIDriverSpec{})
	d.driver.SetMaxVolumes(8)
	d.sync()
	if n := d.limit(); n != 7 {
		t.Fatalf("limit %d", n)
	}
	d.spec = every(1)
	d.drivers()
	d.until("changed", func() bool { return d.limit() == 8 })
	d.driver.SetMaxVolumes(0)
	d.until("lifted", func() bool { return d.limit() == 0 })
}

// A pod whose volume cannot be attached because there are enough is sent away after a time; the limit is
// brought up to date before.
func TestAPodThatFindsTheNodeFull(t *testing.T) {
	for _, moves := range []bool{true, false} {
		d := newDriven(t, csitest.Config{FaultRate: -1, MaxVolumes: 7}, every(3600))
		if !moves {
			d.spec = storagev1.CSIDriverSpec{}
			d.drivers()
		}
		d.driver.SetMaxVolumes(5)
		d.claim("data", persistent("vol-1"))
		code := int32(codes.ResourceExhausted)
		d.api.mu.Lock()
		d.api.attachments[csi.AttachmentName("vol-1", driverName, "node-1")] = &storagev1.VolumeAttachment{Status: storagev1.VolumeAttachmentStatus{
			AttachError: &storagev1.VolumeError{Message: "no room", ErrorCode: &code},
		}}
		d.api.mu.Unlock()
		d.sync(claimPod(t, 1, "data"))
		if !moves {
			d.says(uid(1), model.VolumesFailed, "status.volumesAttached")
			continue
		}
		d.says(uid(1), model.VolumesFailed, "not attached yet: no room")
		if n := d.limit(); n != 5 {
			t.Errorf("limit %d", n)
		}
		row := d.says(uid(1), model.VolumesFailed, "Pod was rejected: ")
		if row.Refused != "VolumeAttachmentLimitExceeded" || !strings.Contains(row.Message, "no room") {
			t.Errorf("row %+v", row)
		}
		if !strings.Contains(d.events.String(), "p1 Warning VolumeAttachmentLimitExceeded: ") {
			t.Errorf("events\n%s", d.events)
		}
		if n := strings.Count(d.events.String(), "metric  rejected: VolumeAttachmentLimitExceeded"); n != 1 {
			t.Errorf("counted %d times\n%s", n, d.events)
		}
	}
}

// patience is for a node that is full.
const patience = 300 * time.Millisecond
