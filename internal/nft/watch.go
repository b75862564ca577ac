package nft

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"nodelet/internal/nlwatch"
)

// Watch calls changed after somebody else's transaction in the namespace it
// was started in, until ctx ends. Changes made by this process are left out.
// It says "look again" and nothing more; after a lost notification as well.
func Watch(ctx context.Context, changed func()) error {
	return WatchChanges(ctx, Source{}, func(Change) { changed() })
}

// Change is somebody else's transaction.
type Change struct {
	// Lost: notifications were lost; there may have been any number of transactions by anybody.
	Lost bool
	// Tables are those that were changed.
	Tables []Table
	// Thread is the number of the thread that made it, in the pid namespace of
	// this process, and Program its name.
	Thread  uint32
	Program string
}

// By names who made the change: the program, and its process when it still runs.
func (c *Change) By() string {
	if pid := processOf(c.Thread); pid != "" {
		return fmt.Sprintf("%s (pid %s)", c.Program, pid)
	}
	return fmt.Sprintf("%s (thread %d, which has ended)", c.Program, c.Thread)
}

// processOf gives the process that a thread belongs to; empty when it is gone.
func processOf(thread uint32) string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", thread))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(status)) {
		if id, ok := strings.CutPrefix(line, "Tgid:"); ok {
			return strings.TrimSpace(id)
		}
	}
	return ""
}

// watchBuffer holds the notifications of some ten thousand elements until they are read.
const watchBuffer = 2 << 20

// Source says what to watch.
type Source struct {
	// NetNS is a file descriptor of the network namespace; 0 is the caller's own.
	NetNS int
	// Opened is called as soon as no change can be missed any more; may be nil.
	Opened func()
	// Own tells whether the connection with a netlink port is the caller's: its changes are left out.
	// Without it they are known by the thread that made them, which costs a look into /proc each time,
	// and fails in a container: the kernel tells the number that the thread has on the host. May be nil.
	Own func(port uint32) bool
	// Mute is as nlwatch.Source.Mute; may be nil.
	Mute func(set func(port uint32) error)
}

// WatchChanges calls each with every transaction of others in a namespace until ctx ends.
func WatchChanges(ctx context.Context, from Source, each func(Change)) error {
	var pending Change
	err := nlwatch.Watch(ctx, nlwatch.Source{
		Protocol: unix.NETLINK_NETFILTER, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1), NetNS: from.NetNS, Buffer: watchBuffer, Opened: from.Opened, Mute: from.Mute,
	}, func(messages []byte) {
		if messages == nil {
			pending = Change{}
			each(Change{Lost: true})
			return
		}
		eachMessage(messages, func(m reply) {
			// All messages of a transaction have the port of who asked for it.
			if m.typ>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.body) < 4 || from.Own != nil && from.Own(m.port) {
				return
			}
			if m.typ&0xff != unix.NFT_MSG_NEWGEN {
				pending.add(m)
				return
			}
			pending.by(m)
			// Every transaction ends with its generation.
			if !ownThread(pending.Thread) {
				each(pending)
			}
			pending = Change{}
		})
	})
	if err != nil {
		return fmt.Errorf("watch nf_tables: %w", err)
	}
	return nil
}

// add notes the table of an object: of all kinds it is the first attribute.
func (c *Change) add(m reply) {
	attrs(m.body[4:], func(typ uint16, v []byte) {
		if t := (Table{Family(m.body[0]), cstr(v)}); typ == unix.NFTA_TABLE_NAME && !slices.Contains(c.Tables, t) {
			c.Tables = append(c.Tables, t)
		}
	})
}

func (c *Change) by(m reply) {
	attrs(m.body[4:], func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_GEN_PROC_PID:
			c.Thread = be32(v)
		case unix.NFTA_GEN_PROC_NAME:
			c.Program = cstr(v)
		}
	})
}

// ownThread: what the kernel calls a pid there is the number of a thread. In
// another pid namespace the number means nothing, and counts as foreign.
func ownThread(tid uint32) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
	return err == nil
}
