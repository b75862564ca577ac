package node

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"nodelet/internal/store"
)

// notifySystemd tells systemd, when it started us and asked for it, that the
// daemon is ready, and then feeds its watchdog for as long as the store can be
// read and written. Ready means that the API was read once: before that
// nothing of the node is programmed.
func (n *Node) notifySystemd(ctx context.Context) error {
	synced := func(s *store.Snapshot) bool { return s.Services.Synced() && s.Slices.Synced() && s.Nodes.Synced() }
	for snap := n.store.Snapshot(); !synced(snap); snap = n.store.Snapshot() {
		select {
		case <-ctx.Done():
			return nil
		case <-snap.Changed():
		}
	}
	if sent, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil || !sent {
		return err
	}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return err
	}
	ticker := time.NewTicker(interval / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
			return nil
		case <-ticker.C:
			_ = n.status() // takes every lock the CLI needs: a daemon that hangs is not fed
			if _, err := daemon.SdNotify(false, daemon.SdNotifyWatchdog); err != nil {
				return err
			}
		}
	}
}
