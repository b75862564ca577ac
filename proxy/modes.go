package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"nodelet/internal/xtables"
	"nodelet/proxy/ebpf"
	"nodelet/proxy/iptables"
	"nodelet/proxy/ipvs"
	"nodelet/proxy/nftables"
)

// The modes. Auto takes the first of modes that the kernel proves to have.
const (
	Auto     = "auto"
	Nftables = "nftables"
	EBPF     = "ebpf"
	Iptables = "iptables"
	IPVS     = "ipvs"
)

// mode is one back end: how it proves itself and how it is made.
type mode struct {
	name string
	// asked: auto does not take it, somebody has to ask for it by name.
	asked bool
	// probe proves by trial that the kernel can do what the back end needs,
	// and leaves no trace. ipv6 tells whether that goes for IPv6 too. The
	// error says what is missing and how to get it.
	probe func(context.Context, Config) (ipv6 bool, err error)
	// open makes the back end; it changes nothing. An error that wraps
	// errors.ErrUnsupported says that nothing of it can be in this kernel.
	open func(place) (Backend, error)
}

// place is what a back end may know.
type place struct {
	Config
	IPv6 bool
	Log  *slog.Logger
}

// modes are all back ends, the best first. A new one adds its line here, and nothing elsewhere.
func modes() []mode {
	return []mode{
		{
			name:  Nftables,
			probe: func(ctx context.Context, c Config) (bool, error) { return nftables.Detect(ctx, c.NetNS) },
			open: func(p place) (Backend, error) {
				return nftables.New(nftables.Config{NetNS: p.NetNS, IPv6: p.IPv6})
			},
		},
		{
			name: EBPF, // why it comes second: docs/adr/0013
			probe: func(ctx context.Context, c Config) (bool, error) {
				if err := ebpf.CanDetect(c.Local); err != nil {
					return false, err
				}
				cfg := c.EBPF
				cfg.NetNS = c.NetNS
				return ebpf.Detect(ctx, cfg)
			},
			open: func(p place) (Backend, error) {
				cfg := p.EBPF
				cfg.NetNS, cfg.Log = p.NetNS, p.Log
				return ebpf.New(cfg)
			},
		},
		{
			name: Iptables,
			probe: func(ctx context.Context, c Config) (bool, error) {
				return iptables.Detect(ctx, iptables.Config{NetNS: c.NetNS})
			},
			open: func(p place) (Backend, error) {
				b, err := iptables.New(context.Background(), iptables.Config{NetNS: p.NetNS, IPv6: p.IPv6, TCPBeLiberal: p.Conntrack.TCPBeLiberal})
				if errors.Is(err, xtables.ErrNotInstalled) {
					return nil, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
				}
				return b, err
			},
		},
		{
			name:  IPVS,
			asked: true, // for those who want its schedulers
			probe: func(ctx context.Context, c Config) (bool, error) {
				return ipvs.Detect(ctx, c.NetNS, c.IPVS.Scheduler)
			},
			open: func(p place) (Backend, error) {
				cfg := p.IPVS
				cfg.NetNS, cfg.IPv6 = p.NetNS, p.IPv6
				return ipvs.New(cfg)
			},
		},
	}
}
