package proxytest

import "testing"

// affinityOfAPort: a client keeps its endpoint by whichever address of the
// port it calls, as in kube-proxy; the ports of a Service are each their own.
func affinityOfAPort(t *testing.T, s subject) {
	b := newBench(t, s, `service d/x LoadBalancer 10.96.0.1,fd96::1 p:80/TCP[30001] q:53/UDP[31001] affinity=3h lb=1.2.3.4 lb=fd12::4 extip=5.6.7.8
service d/l LoadBalancer 10.96.0.2,fd96::2 p:80/TCP[30002] affinity=3h lb=1.2.3.5 external=local
`+endpoints("d/x", "a", "b", "c", "r")+endpoints("d/l", "a", "b", "c", "r"))
	same := func(when, from string, dsts ...string) string {
		t.Helper()
		first := b.who(from, dsts[0])
		for range 3 {
			for _, dst := range dsts {
				if got := b.who(from, dst); got != first {
					t.Errorf("%s: %s -> %s: %s, and %s for %s", when, from, dst, got, first, dsts[0])
				}
			}
		}
		return first
	}
	tcp := []string{"10.96.0.1:80/TCP", "192.168.7.1:30001/TCP", "192.168.8.1:30001/TCP", "1.2.3.4:80/TCP", "5.6.7.8:80/TCP"}
	udp := []string{"192.168.7.1:31001/UDP", "10.96.0.1:53/UDP", "1.2.3.4:53/UDP"}
	six := []string{"[fd12::4]:80/TCP", "[fd96::1]:80/TCP", "[fd07::1]:30001/TCP"}
	for _, from := range []string{"a", "outside"} {
		for _, dsts := range [][]string{tcp, udp, six} {
			first := same("all addresses", from, dsts...)
			// Learnt by one address, forgotten for all.
			others := map[string][]string{"a": {"b", "c", "r"}, "b": {"a", "c", "r"}, "c": {"a", "b", "r"}, "r": {"a", "b", "c"}}[first]
			b.change(endpoints("d/x", others...))
			b.change(endpoints("d/x", "a", "b", "c", "r"))
			same("after the endpoint had left and come back", from, dsts...)
		}
	}
	// Policy Local from outside: only endpoints here, whatever the ClusterIP knows of the client.
	for range 4 {
		same("policy Local", "outside", "192.168.7.1:30002/TCP", "1.2.3.5:80/TCP")
		b.agree("outside -> 192.168.7.1:30002/TCP", "outside -> 1.2.3.5:80/TCP", "outside -> 10.96.0.2:80/TCP")
	}
	// From a pod the policy does not count.
	same("policy Local, from a pod", "c", "10.96.0.2:80/TCP", "192.168.7.1:30002/TCP", "1.2.3.5:80/TCP")
	b.stop()
	first := b.who("a", "10.96.0.1:80/TCP")
	b.start()
	if again := same("after a restart", "a", tcp...); again != first {
		t.Errorf("after a restart: %s, and %s before", again, first)
	}
}
