package proxy

import (
	"testing"

	"nodelet/internal/nft"
)

// TestWhatWakes: changes of our tables and lost notifications ask for a look, changes of others' do not.
func TestWhatWakes(t *testing.T) {
	for _, c := range []struct {
		change nft.Change
		wakes  bool
	}{
		{nft.Change{Lost: true}, true},
		{nft.Change{Tables: []nft.Table{{Family: nft.IPv4, Name: "nodelet-proxy"}}}, true},
		{nft.Change{Tables: []nft.Table{{Family: nft.IPv4, Name: "other"}}}, false},
	} {
		d := newDrift()
		d.changed(c.change)
		select {
		case <-d.wake:
			if !c.wakes {
				t.Errorf("%+v wakes", c.change)
			}
		default:
			if c.wakes {
				t.Errorf("%+v does not wake", c.change)
			}
		}
	}
}
