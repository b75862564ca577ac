package cnitest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// patience is how long a packet may take on a busy machine.
const patience = 3 * time.Second

// ServeTCP answers every connection to the port with "name client-address".
func (h *Host) ServeTCP(port uint16) {
	h.t.Helper()
	var l net.Listener
	h.Do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	})
	h.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			from := netip.MustParseAddrPort(c.RemoteAddr().String()).Addr().Unmap()
			_, _ = fmt.Fprintf(c, "%s %s", h.Name, from)
			_ = c.Close()
		}
	}()
}

// ServeUDP answers every datagram to the port with "name client-address".
func (h *Host) ServeUDP(addr netip.Addr, port uint16) {
	h.t.Helper()
	var c net.PacketConn
	h.Do(func() (err error) {
		c, err = net.ListenPacket("udp", netip.AddrPortFrom(addr, port).String())
		return err
	})
	h.t.Cleanup(func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 64<<10)
		for {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(h.Name+" "+netip.MustParseAddrPort(from.String()).Addr().Unmap().String()), from)
		}
	}()
}

// Ask sends a request from the host ("tcp" or "udp") and returns the answer.
// local, when valid, is the source address.
func (h *Host) Ask(network string, to netip.Addr, port uint16, local netip.Addr) (answer string, err error) {
	err = h.NS.Do(func() error {
		var d net.Dialer
		if local.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
			if network == "udp" {
				d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, err := d.DialContext(ctx, network, netip.AddrPortFrom(to, port).String())
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if network == "udp" {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			answer = string(buf[:n])
			return err
		}
		b, err := io.ReadAll(c)
		answer = string(b)
		return err
	})
	return answer, err
}

// Expect asks and fails the test unless the answer is "server from-address".
func (h *Host) Expect(network string, to netip.AddrPort, server string, from netip.Addr) {
	h.t.Helper()
	want := server + " " + from.String()
	got, err := h.Ask(network, to.Addr(), to.Port(), netip.Addr{})
	if err != nil || got != want {
		h.t.Errorf("%s asks %s %s: got %q (%v), want %q", h.Name, network, to, got, err, want)
	}
}

// At is an address and a port.
func At(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// ExpectNothing fails the test when an answer comes.
func (h *Host) ExpectNothing(network string, to netip.Addr, port uint16) {
	h.t.Helper()
	if got, err := h.Ask(network, to, port, netip.Addr{}); err == nil {
		h.t.Errorf("%s asks %s %s:%d: got %q, want none", h.Name, network, to, port, strings.TrimSpace(got))
	}
}
