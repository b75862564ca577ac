package admission

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// DefaultIDsPerPod is how many users a pod with a user namespace has unless the configuration says otherwise (KEP-127).
const DefaultIDsPerPod = 65536

// UserIDs are the ids of the host that pods with user namespaces of their own may have.
type UserIDs struct {
	First uint32
	// Count from First on, PerPod of them for each pod.
	Count, PerPod uint32
}

// DefaultUserIDs are all ids but those of the host's own users, as upstream
// takes them where nothing is set aside for the user kubelet.
func DefaultUserIDs(perPod uint32) UserIDs {
	return UserIDs{First: perPod, Count: uint32(1<<32 - uint64(perPod)), PerPod: perPod}
}

// Check says what is wrong with the ids for a node of so many pods.
func (u UserIDs) Check(pods int) error {
	switch {
	case u.PerPod == 0 || u.PerPod%DefaultIDsPerPod != 0:
		return fmt.Errorf("users per pod: %d is no multiple of %d", u.PerPod, DefaultIDsPerPod)
	case u.First < u.PerPod:
		return fmt.Errorf("users of pods begin at %d: ids below %d are the host's own", u.First, u.PerPod)
	case u.First%u.PerPod != 0 || u.Count%u.PerPod != 0:
		return fmt.Errorf("users of pods: %d from %d on is not in multiples of %d", u.Count, u.First, u.PerPod)
	case uint64(u.Count/u.PerPod) < uint64(max(pods, 0)):
		return fmt.Errorf("users of pods: %d are not enough for %d pods of %d", u.Count, pods, u.PerPod)
	}
	return nil
}

// SubIDs reads the ids set aside for a user in the texts of /etc/subuid and
// /etc/subgid, which have to say the same. A user that is not in them has none.
func SubIDs(user, subuid, subgid string) (first, count uint32, err error) {
	first, count, err = subIDs(user, subuid)
	if err != nil {
		return 0, 0, fmt.Errorf("/etc/subuid: %w", err)
	}
	first2, count2, err := subIDs(user, subgid)
	if err != nil {
		return 0, 0, fmt.Errorf("/etc/subgid: %w", err)
	}
	if first != first2 || count != count2 {
		return 0, 0, fmt.Errorf("/etc/subuid has %d ids from %d on for %s, /etc/subgid %d from %d on: they must be the same", count, first, user, count2, first2)
	}
	return first, count, nil
}

func subIDs(user, text string) (first, count uint32, err error) {
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if fields[0] != user {
			continue
		}
		if len(fields) != 3 || count != 0 {
			return 0, 0, fmt.Errorf("want one line %s:FIRST:COUNT", user)
		}
		a, err := strconv.ParseUint(fields[1], 10, 32)
		if err != nil {
			return 0, 0, fmt.Errorf("line of %s: %w", user, err)
		}
		n, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			return 0, 0, fmt.Errorf("line of %s: %w", user, err)
		}
		first, count = uint32(a), uint32(n)
	}
	if count == 0 {
		return 0, 0, fmt.Errorf("no ids are set aside for %s: add a line %s:FIRST:COUNT, or remove the user", user, user)
	}
	return first, count, nil
}

// mapUsers gives each pod of the node that wants a user namespace ids that no
// other has: those that its sandbox has already, else the lowest that are free.
// What runs in the runtime counts, whoever it belongs to.
func (d *decider) mapUsers(snap *store.Snapshot) {
	used := map[uint32]bool{}
	for _, row := range d.rows {
		used[row.UserNS] = true
	}
	for _, rt := range snap.Runtime.All() {
		for i := range rt.Sandboxes {
			used[rt.Sandboxes[i].UserNS] = true
		}
	}
	for _, pod := range d.pods {
		row := d.rows[model.UID(pod.UID)]
		if !ownUsers(pod) || row.UserNS != 0 {
			continue
		}
		next := *row
		if next.UserNS = present(snap, row.UID); next.UserNS == 0 {
			next.UserNS = d.freeUsers(used)
		}
		if next.UserNS != 0 {
			used[next.UserNS] = true
			d.replace(&next)
		}
	}
}

func ownUsers(pod *corev1.Pod) bool { return pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers }

// present is what the pod's newest sandbox has.
func present(snap *store.Snapshot, uid model.UID) uint32 {
	if rt, ok := snap.Runtime.Get(uid); ok && len(rt.Sandboxes) > 0 {
		return rt.Sandboxes[0].UserNS
	}
	return 0
}

// freeUsers is 0 when all are in use.
func (d *decider) freeUsers(used map[uint32]bool) uint32 {
	u := d.node.Users
	if u.PerPod == 0 {
		return 0
	}
	for i := range u.Count / u.PerPod {
		if id := u.First + i*u.PerPod; !used[id] {
			return id
		}
	}
	return 0
}

// replace puts a row in place of the one that was decided before, or of the table's.
func (d *decider) replace(row *model.Allocation) {
	d.rows[row.UID] = row
	for i, r := range d.out.Rows {
		if r.UID == row.UID {
			d.out.Rows[i] = row
			return
		}
	}
	d.out.Rows = append(d.out.Rows, row)
}
