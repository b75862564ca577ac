package link

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"nodelet/internal/netns"
	"nodelet/internal/nl"
)

// rounds is how many pods are made: the kernel is quick enough most times.
const rounds = 30

// The first packet to a pod arrives: the host end works as soon as Apply is done. The kernel takes a
// device into use some time after its other end came up, and drops what is sent to it before.
func TestTheFirstPacketArrives(t *testing.T) {
	lost := 0
	for range rounds {
		inNode(t, func(host *nl.Conn, pod *netns.NS) {
			var server net.PacketConn
			err := pod.Do(func() (err error) {
				server, err = net.ListenPacket("udp4", "0.0.0.0:53")
				return err
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer server.Close()
			if err := host.AddAddr(nl.Addr{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Link: loopbackIndex}); err != nil {
				t.Error(err)
				return
			}
			if err := Apply(host, pod, plan(t, "a", "10.244.0.5"), nil); err != nil {
				t.Error(err)
				return
			}
			client, err := net.Dial("udp4", "10.244.0.5:53")
			if err != nil {
				t.Error(err)
				return
			}
			defer client.Close()
			if _, err := client.Write([]byte("?")); err != nil {
				t.Error(err)
			}
			_ = server.SetReadDeadline(time.Now().Add(time.Second))
			if _, _, err := server.ReadFrom(make([]byte, 1)); err != nil {
				lost++
			}
		})
	}
	if lost > 0 {
		t.Errorf("%d of %d first packets were lost", lost, rounds)
	}
}
