package xdp

import (
	"context"
	"fmt"
	"time"

	"github.com/cilium/ebpf/link"

	"nodelet/internal/nl"
)

// recheck is how often devices are looked at without a notification: somebody
// may have taken a program off.
const recheck = 30 * time.Second

// Run keeps the program on the devices that come and go, until ctx ends. Then
// nothing is answered here any more.
func (a *Answerer) Run(ctx context.Context) error {
	defer a.Close()
	wake := make(chan struct{}, 1)
	watch := make(chan error, 1)
	ended := watch
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		ended <- nl.Watch(ctx, func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
	}()
	ticker := time.NewTicker(recheck)
	defer ticker.Stop()
	var last string
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-watch:
			if err != nil {
				a.log.Warn("answer DNS by XDP: new devices are found late", "err", err, "every", recheck)
			}
			watch = nil
		case <-wake:
		case <-ticker.C:
		}
		a.mu.Lock()
		err := a.syncDevices()
		a.mu.Unlock()
		if err != nil && err.Error() != last {
			a.log.Warn("answer DNS by XDP: the sockets answer instead", "err", err)
			last = err.Error()
		}
	}
}

// syncDevices attaches the program to the veth devices that are there, and
// forgets those that are not. A device that another XDP program has is left to it.
func (a *Answerer) syncDevices() error {
	if a.kernel == nil {
		return nil
	}
	c, err := nl.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	links, err := c.Links()
	if err != nil {
		return err
	}
	there := map[int]bool{}
	for _, l := range links {
		if l.Kind != "veth" {
			continue
		}
		there[l.Index] = true
		if !a.attached(l.Index) {
			a.attach(&l)
		}
	}
	for index, l := range a.links {
		if !there[index] {
			_ = l.Close() // the kernel has detached it
			delete(a.links, index)
		}
	}
	for index := range a.refused {
		if !there[index] {
			delete(a.refused, index)
		}
	}
	return nil
}

// attached reports whether the link is still where it was put.
func (a *Answerer) attached(index int) bool {
	l, ok := a.links[index]
	if !ok {
		return false
	}
	if info, err := l.Info(); err == nil && info.XDP() != nil && info.XDP().Ifindex == uint32(index) {
		return true
	}
	_ = l.Close()
	delete(a.links, index)
	return false
}

// attach puts the program on a device. Generic mode: native mode would need a
// program of ours in the pod as well to send a reply there, and switches
// segmentation offload off for all that the pod sends.
func (a *Answerer) attach(to *nl.Link) {
	l, err := link.AttachXDP(link.XDPOptions{Program: a.kernel.objects.Answer, Interface: to.Index, Flags: link.XDPGenericMode})
	if err != nil {
		if text := err.Error(); a.refused[to.Index] != text {
			a.refused[to.Index] = text
			a.log.Warn("answer DNS by XDP: pods behind this device are answered by the sockets", "device", to.Name, "err", err)
		}
		return
	}
	delete(a.refused, to.Index)
	a.links[to.Index] = l
}

// String is one line for people: on how many devices, how many names.
func (a *Answerer) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kernel == nil {
		return "off"
	}
	return fmt.Sprintf("%d names on %d devices", len(a.kernel.names.slots), len(a.links))
}
