package prove

import (
	"context"

	"nodelet/proxy/ipvs"
	"nodelet/proxy/lb"
)

// HeldIPVS is the IPVS back end in a kernel: its rules and its virtual servers.
func HeldIPVS() (*Held, error) { return NewHeld("ipvs in the kernel", openIPVS) }

// PacketsIPVS are real packets through the IPVS back end.
func PacketsIPVS() (*Packets, error) { return NewPackets("ipvs with packets", openIPVS) }

func openIPVS(fd int) (Writer, func() error, error) {
	ctx := context.Background()
	if _, err := ipvs.Detect(ctx, fd, ""); err != nil { // loads the kernel's modules
		return nil, nil, err
	}
	back, err := ipvs.New(ipvs.Config{NetNS: fd, IPv6: true})
	if err != nil {
		return nil, nil, err
	}
	write := func(ctx context.Context, s *lb.State) error {
		_, err := back.Apply(ctx, s)
		return err
	}
	return write, back.Close, nil
}
