package nftables

import (
	"testing"

	"nodelet/proxy/lb/lbbench"
)

func open(t testing.TB) lbbench.Backend { return inNamespace(t) }

func BenchmarkChange(b *testing.B) {
	lbbench.Change(b, open, lbbench.Size{Services: 100, Endpoints: 2}, lbbench.Size{Services: 1000, Endpoints: 2}, lbbench.Size{Services: 10_000, Endpoints: 2})
}

func BenchmarkColdSync(b *testing.B) {
	lbbench.ColdSync(b, open, lbbench.Size{Services: 1000, Endpoints: 2}, lbbench.Size{Services: 10_000, Endpoints: 2}, lbbench.Size{Services: 50_000, Endpoints: 5})
}

func BenchmarkRestart(b *testing.B) {
	lbbench.Restart(b, open, lbbench.Size{Services: 1000, Endpoints: 2}, lbbench.Size{Services: 10_000, Endpoints: 2})
}
