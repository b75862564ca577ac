package explain_test

import (
	"fmt"
	"strings"
	"testing"

	"nodelet/explain"
)

func TestParse(t *testing.T) {
	for words, want := range map[string]string{
		"pod/d/a svc/d/x:80":                "pod d/a | svc d/x :80",
		"pod/a -> svc/x:web/udp":            "pod default/a | svc default/x :web UDP",
		"d/a to x.d.svc.cluster.local:80":   "name d/a | name default/x.d.svc.cluster.local :80",
		"outside nodeport:30080":            "outside | nodeport :30080",
		"192.0.2.7@eth1 10.96.0.1:53/UDP":   "ip 192.0.2.7@eth1 | ip 10.96.0.1 :53 UDP",
		"fd00::1 [fd00::2]:80":              "ip fd00::1 | ip fd00::2 :80",
		"fd00::1 fd00::2":                   "ip fd00::1 | ip fd00::2",
		"node localhost:22":                 "node | localhost :22",
		"pod/kube-system/udp pod/d/tcp":     "pod kube-system/udp | pod d/tcp",
		"a b":                               "name default/a | name default/b",
		"node outside":                      "node | outside",
		"::ffff:10.0.0.1 10.0.0.2":          "ip 10.0.0.1 | ip 10.0.0.2",
		"":                                  "error: one source and one destination",
		"a":                                 "error: one source and one destination",
		"a b c":                             "error: one source and one destination",
		"pod/d/a -":                         "error: the shell took '>'",
		"svc/d/x pod/d/a":                   "error: a Service sends no packets",
		"nodeport:30080 pod/d/a":            "error: a Service sends no packets",
		"a:web b":                           "error: ports and protocols belong to the destination",
		"a svc/d/x:0":                       "error: \"0\" is no port",
		"a svc/d/x:70000":                   "error: \"70000\" is no port",
		"a svc/d/x:":                        "error: \"\" is no port",
		"a svc/d/x:-1":                      "error: \"-1\" is no port",
		"a svc/d/x:80/icmp":                 "error: \"80/icmp\" is no port",
		"a nodeport":                        "error: want nodeport:NUMBER",
		"a deployment/d/x":                  "error: unknown kind \"deployment\"",
		"a svc//x":                          "error: a name is missing",
		"a svc/d/x/y":                       "error: want NAMESPACE/NAME",
		"1.2.3.4@ b":                        "error: \"\" is no name of an interface",
		"1.2.3.4@a-very-long-interface-x b": "error: \"a-very-long-interface-x\" is no name of an interface",
	} {
		q, err := explain.Parse(strings.Fields(words)...)
		got := place(q.From) + " | " + place(q.To)
		if err != nil {
			got = "error: " + err.Error()
		}
		refused := err != nil && strings.HasPrefix(want, "error: ") && strings.Contains(err.Error(), want[7:])
		if got != want && !refused {
			t.Errorf("%q: %s, want %s", words, got, want)
		}
	}
}

func place(p explain.Place) string {
	s := string(p.Kind)
	switch {
	case p.Kind == explain.PlacePod || p.Kind == explain.PlaceService || p.Kind == explain.PlaceName:
		s += " " + p.Key.String()
	case p.Kind == explain.PlaceIP:
		s += " " + p.Addr.String()
	}
	if p.Device != "" {
		s += "@" + p.Device
	}
	switch {
	case p.PortName != "":
		s += " :" + p.PortName
	case p.Port != 0:
		s += fmt.Sprintf(" :%d", p.Port)
	}
	if p.Proto != 0 {
		s += " " + p.Proto.String()
	}
	return s
}

// FuzzParse: any words give a question or an error, and what parses once
// parses again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"pod/d/a svc/d/x:80/udp", "1.2.3.4@eth0 -> [fd00::1]:80", "a nodeport:3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := explain.Parse(s)
		if err != nil {
			return
		}
		if _, err := explain.Parse(q.Text); err != nil {
			t.Errorf("%q gives the question %q, which is none: %v", s, q.Text, err)
		}
	})
}
