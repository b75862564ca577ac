package draplan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"

	"nodelet/internal/model"
)

// Record is what this node has to remember of a claim, over restarts and boots.
type Record struct {
	Key model.Key
	UID model.UID
	// Pods that use the claim here, sorted.
	Pods []model.UID
	// Drivers of the devices that are allocated to the claim, sorted.
	Drivers []string
	// Boot is the one in which all drivers have prepared the claim; empty: some may have, some not.
	Boot string `json:",omitempty"`
	// Devices as the drivers described them when they prepared the claim.
	Devices []model.PreparedDevice `json:",omitempty"`
}

// Prepared reports whether all drivers have prepared the claim since the machine started.
func (r Record) Prepared(boot string) bool { return r.Boot != "" && r.Boot == boot }

// String is one line: claim, pods, drivers, and whether it is prepared.
func (r Record) String() string {
	pods := make([]string, len(r.Pods))
	for i, uid := range r.Pods {
		pods[i] = uid.String()
	}
	text := fmt.Sprintf("%s (%s) pods=%s drivers=%s", r.Key, r.UID, strings.Join(pods, ","), strings.Join(r.Drivers, ","))
	if r.Boot != "" {
		text += " prepared in " + r.Boot
	}
	return text
}

// Call is one to a driver, for several claims at once.
type Call struct {
	Driver string
	Claims []Record
}

// Plan is what to do for one pod, in this order: keep the records, have the drivers called, and then either
// note what they prepared, or drop the records.
type Plan struct {
	Keep []Record
	// Drivers must be there, also those that need not be called.
	Drivers []string
	Calls   []Call
	Drop    []model.Key
}

// String is one step a line.
func (p Plan) String() string {
	var b strings.Builder
	for _, r := range p.Keep {
		fmt.Fprintf(&b, "keep %s\n", r)
	}
	if len(p.Drivers) > 0 {
		fmt.Fprintf(&b, "need %s\n", strings.Join(p.Drivers, ","))
	}
	for _, c := range p.Calls {
		names := make([]string, len(c.Claims))
		for i, r := range c.Claims {
			names[i] = r.Key.String()
		}
		fmt.Fprintf(&b, "call %s for %s\n", c.Driver, strings.Join(names, ","))
	}
	for _, k := range p.Drop {
		fmt.Fprintf(&b, "drop %s\n", k)
	}
	return b.String()
}

// Facts is what Prepare looks at.
type Facts struct {
	Pod *corev1.Pod
	// Needs are those of the pod, Claims the objects behind them by name.
	Needs  []Need
	Claims map[string]*resourcev1.ResourceClaim
	// Records are those of this node, by key.
	Records map[model.Key]Record
	// Boot is the present one.
	Boot string
}

// Prepare says what is to be done before the containers of a pod are made. An
// error says why the pod must wait: nothing of it is begun then, so that it can
// go without anything to take back.
func Prepare(f Facts) (Plan, error) {
	var plan Plan
	drivers, calls := map[string]bool{}, map[string][]Record{}
	for _, need := range f.Needs {
		claim := f.Claims[need.Claim]
		if claim == nil {
			return Plan{}, fmt.Errorf("ResourceClaim %s does not exist", need.Claim)
		}
		if err := check(f.Pod, need, claim); err != nil {
			return Plan{}, err
		}
		old, known := f.Records[key(f.Pod, need.Claim)]
		if known && old.UID != model.UID(claim.UID) {
			return Plan{}, fmt.Errorf("old ResourceClaim with same name %s and different UID %s still exists: the pod that used it was deleted by force and is still being stopped here", claim.Name, old.UID)
		}
		next := recordOf(f.Pod, claim, old)
		plan.Keep = append(plan.Keep, next)
		for _, d := range next.Drivers {
			drivers[d] = true
			if !next.Prepared(f.Boot) {
				calls[d] = append(calls[d], next)
			}
		}
	}
	plan.Drivers, plan.Calls = slices.Sorted(maps.Keys(drivers)), callsOf(calls)
	return plan, nil
}

// recordOf is the record of a claim with one pod more.
func recordOf(pod *corev1.Pod, claim *resourcev1.ResourceClaim, old Record) Record {
	next := Record{Key: key(pod, claim.Name), UID: model.UID(claim.UID), Boot: old.Boot, Devices: old.Devices}
	next.Pods = with(old.Pods, model.UID(pod.UID))
	next.Drivers = slices.Clone(old.Drivers)
	for i := range claim.Status.Allocation.Devices.Results {
		next.Drivers = append(next.Drivers, claim.Status.Allocation.Devices.Results[i].Driver)
	}
	slices.Sort(next.Drivers)
	next.Drivers = slices.Compact(next.Drivers)
	return next
}

// Release says what is to be done at the end of a pod: the claims that others
// use go on without it, the rest is to be taken back. Those count as not prepared
// from now on, so that a pod that comes meanwhile has them prepared anew.
func Release(uid model.UID, records []Record) Plan {
	var plan Plan
	calls := map[string][]Record{}
	for _, r := range records {
		switch {
		case !slices.Contains(r.Pods, uid):
			continue
		case len(r.Pods) > 1:
			r.Pods = slices.DeleteFunc(slices.Clone(r.Pods), func(other model.UID) bool { return other == uid })
			plan.Keep = append(plan.Keep, r)
			continue
		}
		r.Boot, r.Devices = "", nil
		plan.Keep = append(plan.Keep, r)
		plan.Drop = append(plan.Drop, r.Key)
		for _, d := range r.Drivers {
			calls[d] = append(calls[d], r)
		}
	}
	plan.Calls = callsOf(calls)
	return plan
}

func callsOf(claims map[string][]Record) (all []Call) {
	for _, d := range slices.Sorted(maps.Keys(claims)) {
		all = append(all, Call{Driver: d, Claims: claims[d]})
	}
	return all
}

func with(pods []model.UID, uid model.UID) []model.UID {
	if slices.Contains(pods, uid) {
		return pods
	}
	next := append(slices.Clone(pods), uid)
	slices.Sort(next)
	return next
}

// Row is what others see of a pod's claims, from the records that name it.
func Row(uid model.UID, records []Record, boot string) *model.PodDevices {
	row := &model.PodDevices{UID: uid, Ready: true}
	for _, r := range records {
		if !slices.Contains(r.Pods, uid) {
			continue
		}
		one := model.PreparedClaim{Name: r.Key.Name}
		if r.Prepared(boot) {
			one.Devices = slices.Clone(r.Devices)
		} else {
			row.Ready = false
		}
		row.Claims = append(row.Claims, one)
	}
	slices.SortFunc(row.Claims, func(a, b model.PreparedClaim) int { return strings.Compare(a.Name, b.Name) })
	return row
}

// Has reports whether a row has all claims that a pod needs, prepared.
func Has(row *model.PodDevices, needs []Need) bool {
	if row == nil || !row.Ready {
		return false
	}
	for _, n := range needs {
		if !slices.ContainsFunc(row.Claims, func(c model.PreparedClaim) bool { return c.Name == n.Claim }) {
			return false
		}
	}
	return true
}
