package node

import (
	"path/filepath"

	"nodelet/agent"
	"nodelet/agent/probe"
	"nodelet/internal/keep"
)

// keptParts hold for the next process what the agent's parts know and neither the API nor the runtime can tell.
type keptParts struct {
	probes       *keep.File[probe.Kept]
	probesBefore map[string]probe.Kept
	stops        *keep.File[agent.KeptStop]
	stopsBefore  map[string]agent.KeptStop
}

// openKept reads what the last process kept.
func (p *agentParts) openKept() error {
	boot, err := keep.Boot()
	if err != nil {
		return err
	}
	dir := p.n.cfg.Layout.AgentState()
	if p.kept.probes, p.kept.probesBefore, err = keep.Open[probe.Kept](filepath.Join(dir, "probes"), boot); err != nil {
		return err
	}
	p.kept.stops, p.kept.stopsBefore, err = keep.Open[agent.KeptStop](filepath.Join(dir, "stops"), boot)
	return err
}
