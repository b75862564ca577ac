package dns

import (
	"fmt"

	"nodelet/dns/corefile"
	"nodelet/dns/zone"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// corefileKey is the key of the ConfigMap's data that holds the configuration.
const corefileKey = "Corefile"

// configState is the last look at the ConfigMap.
type configState struct {
	seen *model.Config
}

// configure takes a changed Corefile. It is called by the loop that keeps the zone, and by nobody else.
func (d *DNS) configure(next *store.Snapshot) {
	if d.c.Corefile == (model.Key{}) {
		return
	}
	c, known := next.Configs.Get(model.ConfigKey{Kind: model.ConfigMap, Key: d.c.Corefile})
	if !known || c == d.config.seen {
		return
	}
	d.config.seen = c
	p, err := d.programOf(c)
	d.configErr.Store(&err)
	if err != nil {
		d.log.Error("read DNS configuration: the one before stays in force", "err", err, "inForce", d.program.Load().source)
		return
	}
	old := d.program.Load()
	if old.pods != p.pods || old.ttl != p.ttl {
		z, err := zone.New(d.zoneConfig(p))
		if err != nil { // the domain was good before
			d.log.Error("read DNS configuration: the one before stays in force", "err", err)
			return
		}
		d.base = z
	}
	d.program.Store(p)
	d.forward.use(p)
	d.log.Info("DNS configuration", "from", p.source)
}

// programOf compiles what the ConfigMap says; without one the built-in program is used.
func (d *DNS) programOf(c *model.Config) (*program, error) {
	text, ok := c.Data[corefileKey]
	if c.Missing || !ok {
		return d.builtin(), nil
	}
	source := fmt.Sprintf("ConfigMap %s", d.c.Corefile)
	files := make(map[string]string, len(c.Data))
	for key, data := range c.Data {
		files[corefile.Dir+key] = string(data)
	}
	parsed, err := corefile.Parse(source+" "+corefileKey, string(text), files)
	if err != nil {
		return nil, err
	}
	for _, note := range parsed.Notes {
		d.log.Info("DNS configuration", "note", note)
	}
	return d.compile(source+" at resourceVersion "+c.ResourceVersion, parsed)
}

func (d *DNS) zoneConfig(p *program) zone.Config {
	return zone.Config{Domain: d.c.ClusterDomain, TTL: p.ttl, Pods: p.pods, Servers: d.c.ListenAddrs}
}
