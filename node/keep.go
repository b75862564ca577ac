package node

import (
	"path/filepath"

	"nodelet/agent"
	"nodelet/agent/dra"
	"nodelet/agent/dra/draplan"
	"nodelet/agent/evict"
	"nodelet/agent/exclusive"
	"nodelet/agent/probe"
	"nodelet/internal/keep"
	"nodelet/internal/model"
)

// keptParts hold for the next process what the agent's parts know and neither the API nor the runtime can tell.
type keptParts struct {
	probes       *keep.File[probe.Kept]
	probesBefore map[string]probe.Kept
	stops        *keep.File[agent.KeptStop]
	stopsBefore  map[string]agent.KeptStop

	evictions       *keep.File[evict.Kept]
	evictionsBefore map[string]evict.Kept

	grants        *keep.File[model.Grant]
	grantsBefore  map[string]model.Grant
	plugins       *keep.File[exclusive.KeptPlugin]
	pluginsBefore map[string]exclusive.KeptPlugin

	claims           *keep.File[draplan.Record]
	claimsBefore     map[string]draplan.Record
	draDrivers       *keep.File[dra.KeptDriver]
	draDriversBefore map[string]dra.KeptDriver
	boot             string
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
	if p.kept.stops, p.kept.stopsBefore, err = keep.Open[agent.KeptStop](filepath.Join(dir, "stops"), boot); err != nil {
		return err
	}
	if p.kept.evictions, p.kept.evictionsBefore, err = keep.Open[evict.Kept](filepath.Join(dir, "evictions"), boot); err != nil {
		return err
	}
	if p.kept.grants, p.kept.grantsBefore, err = keep.Open[model.Grant](filepath.Join(dir, "grants"), boot); err != nil {
		return err
	}
	if p.kept.claims, p.kept.claimsBefore, err = keep.Open[draplan.Record](filepath.Join(dir, "claims"), keep.AnyBoot); err != nil {
		return err
	}
	if p.kept.draDrivers, p.kept.draDriversBefore, err = keep.Open[dra.KeptDriver](filepath.Join(dir, "dradrivers"), boot); err != nil {
		return err
	}
	p.kept.boot = boot
	p.kept.plugins, p.kept.pluginsBefore, err = keep.Open[exclusive.KeptPlugin](filepath.Join(dir, "deviceplugins"), keep.AnyBoot)
	return err
}
