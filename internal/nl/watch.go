package nl

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"nodelet/internal/nlwatch"
)

// watched are the groups Watch listens to.
const watched = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
	unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE

// Watch calls changed after links, addresses or routes of the namespace it
// was started in have changed, until ctx ends. It says "look again" and
// nothing more: several events may become one call, and a lost event (an
// overrun socket) makes a call as well.
func Watch(ctx context.Context, changed func()) error {
	err := nlwatch.Watch(ctx, nlwatch.Source{Protocol: unix.NETLINK_ROUTE, Groups: watched}, func([]byte) { changed() })
	if err != nil {
		return fmt.Errorf("watch links, addresses and routes: %w", err)
	}
	return nil
}
