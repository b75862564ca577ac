package netns

import "testing"

// TestDisinherit plays the machine that a namespace takes its settings over
// from: a router with strict filters.
func TestDisinherit(t *testing.T) {
	needRoot(t)
	ns, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	each := func(use func(key, value string) error) error {
		for _, scope := range []string{"all", "default", "lo"} {
			for _, s := range inherited {
				if err := use("ipv4/conf/"+scope+"/"+s.key, s.value); err != nil {
					return err
				}
			}
		}
		return nil
	}
	check := func(when string) error {
		return each(func(key, value string) error {
			got, err := ReadSysctl(key)
			if err == nil && got != value {
				t.Errorf("%s: %s=%s, want %s", when, key, got, value)
			}
			return err
		})
	}
	err = ns.Do(func() error {
		if err := check("new"); err != nil {
			return err
		}
		flip := func(key, value string) error {
			_, err := WriteSysctl(key, map[string]string{"0": "1", "1": "0"}[value])
			return err
		}
		if err := each(flip); err != nil {
			return err
		}
		if err := Disinherit(); err != nil {
			return err
		}
		return check("after Disinherit")
	})
	if err != nil {
		t.Fatal(err)
	}
}
