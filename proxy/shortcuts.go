package proxy

import "nodelet/proxy/lb"

// forwarder is a Backend that forwards packets of known connections before the
// kernel's own way begins.
type forwarder interface {
	// Shortcuts lists the links where it does, or should, and how many packets
	// were. It may be called by any goroutine at any time.
	Shortcuts() (all []lb.Shortcut, packets uint64, err error)
}

// Shortcuts gives where packets of known connections are forwarded by XDP, and
// how many were since the back end was opened; nothing in modes that do not.
func (p *Proxy) Shortcuts() ([]lb.Shortcut, uint64) {
	f, ok := p.engine.Load().Backend.(forwarder)
	if !ok {
		return nil, 0
	}
	all, packets, err := f.Shortcuts()
	if err != nil {
		p.deps.Log.Debug("count packets that were forwarded by XDP", "err", err)
	}
	return all, packets
}
