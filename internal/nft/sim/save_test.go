package sim

import (
	"net/netip"
	"strings"
	"testing"
)

// TestParseSave: one rule each in FORWARD, and what becomes of a packet
// 10.0.0.1:4000 -> 10.0.0.2:80 from eth0 to eth1.
func TestParseSave(t *testing.T) {
	w := World{
		Local: func(netip.Addr) bool { return false }, Out: func(netip.Addr) string { return "eth1" },
		Recent: func(list string, a netip.Addr) bool { return list == "L" && a.String() == "10.0.0.1" },
	}
	p := Packet{Src: netip.MustParseAddrPort("10.0.0.1:4000"), Dst: netip.MustParseAddrPort("10.0.0.2:80"), Proto: 6, In: "eth0"}
	for rule, drops := range map[string]bool{
		"-j DROP": true, "-s 10.0.0.0/8 -j DROP": true, "! -s 10.0.0.0/8 -j DROP": false, "-d 0.0.0.2/0.0.0.15 -j DROP": true,
		"-d 0.0.0.3/0.0.0.15 -j DROP": false, "-i eth0 -o eth1 -j DROP": true, "-i eth -j DROP": false, "-i et+ ! -o lo -j DROP": true,
		"-p udp -j DROP": false, "-p 6 -j DROP": true, "! -p tcp -j DROP": false,
		"-p tcp -m tcp --dport 80 -j DROP": true, "-p tcp -m tcp --dport 81:90 -j DROP": false, "-p tcp -m tcp ! --sport 1024:65535 -j DROP": false,
		"-p tcp -m multiport --dports 22,79:81 -j DROP": true, "-p tcp -m multiport ! --dports 22,79:81 -j DROP": false,
		"-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP": true, "-p tcp -m tcp --tcp-flags RST RST -j DROP": false,
		"-m conntrack --ctstate NEW -j DROP": true, "-m conntrack --ctstate RELATED,ESTABLISHED -j DROP": false, "-m conntrack ! --ctstate DNAT -j DROP": true,
		"-m conntrack --ctorigdst 10.0.0.0/8 -j DROP": true, "-m conntrack ! --ctorigdst 10.0.0.0/8 -j DROP": false, "-m conntrack --ctorigdst 127.0.0.0/8 -j DROP": false,
		"-m mark --mark 0x4000/0x4000 -j DROP": false, "-m mark ! --mark 0x4000/0x4000 -j DROP": true,
		"-m addrtype --dst-type LOCAL -j DROP": false, "-m addrtype --src-type UNICAST -j DROP": true,
		"-m recent --rcheck --seconds 10 --reap --name L --mask 255.255.255.255 --rsource -j DROP": true,
		"-m recent --update --name M --rsource -j DROP":                                            false, "-m recent --set --name M --rsource -j DROP": true,
		`-m comment --comment "a \"quoted\" -j ACCEPT" -j DROP`: true, "-g SIDE": true, "-d 10.0.0.2/32 -j SIDE": true, "-j EMPTY": false, "-j RETURN": false,
	} {
		text := "# made\n*filter\n:FORWARD ACCEPT [1:2]\n:SIDE - [0:0]\n:EMPTY - [0:0]\n-A FORWARD " + rule + "\n-A FORWARD -j ACCEPT\n-A SIDE -p tcp -j DROP\nCOMMIT\n"
		tables, err := ParseSave([]byte(text), false)
		if err != nil {
			t.Errorf("%s: %v", rule, err)
			continue
		}
		ways, complete := Run(&Ruleset{Tables: tables}, w, p)
		if !complete || len(ways) != 1 || (ways[0].End == Dropped) != drops || len(ways[0].Unknown) > 0 {
			t.Errorf("%s: %v", rule, ways)
		}
	}
}

// TestParseSaveUnknown: what is not known is followed both ways and named; what is no rule is an error.
func TestParseSaveUnknown(t *testing.T) {
	w := World{Local: func(netip.Addr) bool { return false }}
	p := Packet{Src: netip.MustParseAddrPort("10.0.0.1:4000"), Dst: netip.MustParseAddrPort("10.0.0.2:80"), Proto: 6, In: "eth0"}
	tables, err := ParseSave([]byte("*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m set --match-set good src -j ACCEPT\nCOMMIT\n"), false)
	if err != nil {
		t.Fatal(err)
	}
	ways, _ := Run(&Ruleset{Tables: tables}, w, p)
	if len(ways) != 2 || !strings.Contains(ways[0].String()+ways[1].String(), "iptables match set --match-set") ||
		!strings.Contains(ways[0].String()+ways[1].String(), "policy drop of chain FORWARD of table ip filter of iptables-legacy") {
		t.Errorf("%v", ways)
	}
	for _, text := range []string{"*filter\n-A FORWARD -j DROP\n", "*filter\n:FORWARD\n", "*filter\n:FORWARD ACCEPT\n-A FORWARD \"-j\n", "*filter\nnonsense\n"} {
		if _, err := ParseSave([]byte(text), false); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

// FuzzParseSave: whatever the text, there are tables or an error.
func FuzzParseSave(f *testing.F) {
	f.Add("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING ! -d 10.0.0.1/32 -p tcp -m tcp --dport 80 -m statistic --mode random --probability 0.5 -j DNAT --to-destination 10.0.0.2:80\nCOMMIT\n")
	f.Add("*filter\n:A - [0:0]\n-A A -m recent --name x ! --update -s 1/99 -j MARK --set-xmark 0x1/0x1\n")
	p := Packet{Src: netip.MustParseAddrPort("10.0.0.1:4000"), Dst: netip.MustParseAddrPort("10.0.0.1:80"), Proto: 6, In: "eth0"}
	f.Fuzz(func(_ *testing.T, text string) {
		for _, ipv6 := range []bool{false, true} {
			if tables, err := ParseSave([]byte(text), ipv6); err == nil {
				Run(&Ruleset{Tables: tables}, World{Local: func(netip.Addr) bool { return false }}, p)
			}
		}
	})
}
