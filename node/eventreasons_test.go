package node

import (
	"os"
	"strings"
	"testing"
)

// reasons are those of upstream's events (v1.36, pkg/kubelet/events) that people's tools match: the file
// whose code gives it, or after a dash why no code does.
const reasons = `
Created                           agent/containers.go
Started                           agent/containers.go
Failed                            agent/containers.go
Killing                           agent/containers.go
Preempting                        agent/admission/preempt.go
BackOff                           agent/podplan/start.go
ExceededGracePeriod               - a kill is asked for again until the runtime has done it
FailedKillPod                     agent/execute.go
FailedCreatePodContainer          agent/execute.go
NetworkNotReady                   - the runtime says so when the sandbox is made: FailedCreatePodSandBox
ResizeDeferred                    agent/admission/resize.go
ResizeInfeasible                  agent/admission/resize.go
ResizeCompleted                   agent/resize.go
ResizeStarted                     agent/admission/resize.go
ResizeError                       agent/resize.go
FailedNodeDeclaredFeaturesCheck   - no change of a running pod needs a feature that this node lacks
Pulling                           agent/image/pull.go
Pulled                            agent/image/pull.go
InspectFailed                     agent/image/pull.go
ErrImageNeverPull                 agent/image/imageplan/decide.go
NodeReady                         agent/nodestatus/nodeplan/conditions.go
NodeNotReady                      agent/nodestatus/nodeplan/conditions.go
NodeSchedulable                   agent/nodestatus/status.go
NodeNotSchedulable                agent/nodestatus/status.go
Starting                          agent/nodestatus/status.go
KubeletSetupFailed                - a daemon that cannot start ends, with the reason as its last line
FailedAttachVolume                - the attach-detach controller's
FailedMount                       agent/volume/present.go
VolumeResizeFailed                - the resizer's of the CSI driver
VolumeResizeSuccessful            - the resizer's of the CSI driver
FileSystemResizeFailed            - told as FailedMount
VolumePermissionChangeInProgress  agent/volume/owner/progress.go
FileSystemResizeSuccessful        agent/volume/csi/expand.go
FailedMapVolume                   agent/volume/present.go
AlreadyMountedVolume              - a local volume has the group of the pod that came last
SuccessfulAttachVolume            - the attach-detach controller's
SuccessfulMountVolume             - told of block devices alone upstream, here of none
Rebooted                          agent/nodestatus/nodeplan/make.go
Shutdown                          agent/shutdown/shutdown.go
ContainerGCFailed                 - containers are removed pod by pod; what fails is in the pod's log lines
ImageGCFailed                     agent/image/collect.go
FailedNodeAllocatableEnforcement  node/allocatable.go
NodeAllocatableEnforced           node/allocatable.go
SandboxChanged                    agent/execute.go
FailedCreatePodSandBox            agent/execute.go
FailedPodSandBoxStatus            - a pod that cannot be looked at is looked at again; the health of the part says so
FailedMountOnFilesystemMismatch   - the file system of a CSI volume is its driver's affair
FailedPrepareDynamicResources     agent/dra/pods.go
PossibleMemoryBackedVolumesOnDisk node/swap.go
CgroupV1                          - cgroup v1 is supported here
InvalidImageID                    - ids come from the runtime's own list
InvalidDiskCapacity               agent/image/collect.go
FreeDiskSpaceFailed               agent/image/collect.go
Unhealthy                         agent/probe/probe.go
ProbeWarning                      agent/probe/probe.go
FailedSync                        - upstream's for what FailedPodSandBoxStatus is about
FailedValidation                  - a manifest that is wrong has no pod to tell it of: it is in the log
FailedPostStartHook               agent/containers.go
FailedPreStopHook                 agent/containers.go
`

// Every reason of upstream's has a fate, and the code that it names gives it.
func TestEventReasons(t *testing.T) {
	seen := map[string]bool{}
	for line := range strings.Lines(strings.TrimSpace(reasons)) {
		reason, fate, _ := strings.Cut(strings.TrimSpace(line), " ")
		fate = strings.TrimSpace(fate)
		if seen[reason] || fate == "" {
			t.Errorf("%s is listed twice, or has no fate", reason)
		}
		seen[reason] = true
		if strings.HasPrefix(fate, "- ") {
			continue
		}
		code, err := os.ReadFile("../" + fate)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(code), `"`+reason+`"`) {
			t.Errorf("%s does not give the reason %s", fate, reason)
		}
	}
}
