package nodeconfig

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// whyNoGates is what the documentation says of feature gates.
const whyNoGates = "no gate switches anything here; each is judged by itself at the start, and logged unless it says what nodelet does"

// Gates of Kubernetes 1.36 (pkg/features and those of its libraries) by what a node of nodelet does.
const (
	// gatesOn are features that are always on here.
	gatesOn = `
	AllowServiceExternalIPs CPUManagerPolicyAlphaOptions CPUManagerPolicyBetaOptions CPUManagerPolicyOptions
	ClusterTrustBundleProjection ComponentFlagz ComponentStatusz ContainerRestartRules ContainerStopSignals ContextualLogging CustomCPUCFSQuotaPeriod
	DRAAdminAccess DRAExtendedResource DRAPartitionableDevices DRAPrioritizedList DRAResourceClaimDeviceStatus
	DisableCPUQuotaWithExclusiveCPUs DisableNodeKubeProxyVersion DynamicResourceAllocation EnvFiles ExecProbeTimeout
	ExtendWebSocketsToKubelet GracefulNodeShutdown GracefulNodeShutdownBasedOnPodPriority HostnameOverride
	ImageMaximumGCAge ImageVolume InPlacePodLevelResourcesVerticalScaling InPlacePodVerticalScaling
	InPlacePodVerticalScalingInitContainers KubeletCgroupDriverFromCRI KubeletCrashLoopBackOffMax
	KubeletFineGrainedAuthz KubeletPSI KubeletPodResourcesDynamicResources KubeletPodResourcesGet
	KubeletPodResourcesListUseActivePods KubeletSeparateDiskGC MultiCIDRServiceAllocator MutableCSINodeAllocatableCount
	NFTablesProxyMode NodeDeclaredFeatures NodeLogQuery NodeSwap PLEGOnDemandRelist PodAndContainerStatsFromCRI
	PodCertificateRequest PodLevelResources PodLifecycleSleepAction PodLifecycleSleepActionAllowZero PodLogsQuerySplitStreams
	PodObservedGenerationTracking PodReadyToStartContainersCondition PortForwardWebsockets PreferSameTrafficDistribution
	PreventStaticPodAPIReferences ProcMountType RecoverVolumeExpansionFailure RecursiveReadOnlyMounts
	RelaxedDNSSearchValidation RelaxedEnvironmentVariableValidation ReloadKubeletClientCAFile
	ReloadKubeletServerCertificateFile ResourceHealthStatus ResourceHealthStatusMessage
	RestartAllContainersOnContainerExits RotateKubeletServerCertificate SELinuxMountReadWriteOncePod
	ServiceAccountTokenPodNodeInfo SidecarContainers SupplementalGroupsPolicy SystemdWatchdog
	TopologyManagerPolicyOptions TranslateStreamCloseWebsocketRequests UserNamespacesSupport`
	// gatesOff are features of a node that are not here, or off for good.
	gatesOff = `
	AllAlpha AllBeta CRIListStreaming CSIVolumeHealth ChangeContainerStatusOnKubeletRestart ContainerCheckpoint
	DRAConsumableCapacity DRANodeAllocatableResources DRAWorkloadResourceClaims EventedPLEG
	GitRepoVolumeDriver ImageVolumeWithDigest InPlacePodVerticalScalingExclusiveCPUs
	InPlacePodVerticalScalingExclusiveMemory KubeletEnsureSecretPulledImages KubeletInUserNamespace
	KubeletRegistrationGetOnExistsOnly KubeletServiceAccountTokenForCredentialProviders KubeletTracing
	LocalStorageCapacityIsolationFSQuotaMonitoring LoggingAlphaOptions LoggingBetaOptions MemoryQoS
	PodLevelResourceManagers PodsAPI QOSReserved ReduceDefaultCrashLoopBackOffDecay
	RuntimeClassInImageCriApi SELinuxChangePolicy SELinuxMount TaintTolerationComparisonOperators
	TopologyManagerPolicyAlphaOptions TopologyManagerPolicyBetaOptions UserNamespacesHostNetworkSupport
	VolumeAttributesClass WinDSR WinOverlay WindowsCPUAndMemoryAffinity WindowsGracefulNodeShutdown WindowsHostNetwork`
	// gatesElsewhere are no affair of a node: the control plane's, or how upstream's own client works.
	gatesElsewhere = `
	APIResponseCompression APIServerIdentity APIServerTracing APIServingWithRoutine AggregatedDiscoveryRemoveBetaType
	AllowDNSOnlyNodeCSR AllowInsecureKubeletCertificateSigningRequests AllowOverwriteTerminationGracePeriodSeconds
	AllowParsingUserUIDFromCertAuth AllowUnsafeMalformedObjectDeletion AnonymousAuthConfigurableEndpoints
	AnyVolumeDataSource AtomicFIFO AuthorizeNodeWithSelectors AuthorizePodWebsocketUpgradeCreatePermission
	AuthorizeWithSelectors BtreeWatchCache CBORServingAndStorage CRDObservedGenerationTracking CRDValidationRatcheting
	CSIServiceAccountTokenSecrets ClearingNominatedNodeNameAfterBinding ClientsAllowCARotation ClientsAllowCBOR
	ClientsAllowTLSCacheGC ClientsPreferCBOR CloudControllerManagerWatchBasedRoutesReconciliation
	CloudControllerManagerWebhook ClusterTrustBundle ConcurrentWatchObjectDecode ConsistentListFromCache
	ConstrainedImpersonation ControllerManagerReleaseLeaderElectionLockOnExit CoordinatedLeaderElection
	CrossNamespaceVolumeDataSource CustomResourceFieldSelectors DRADeviceBindingConditions DRADeviceTaintRules
	DRADeviceTaints DRAListTypeAttributes DRAResourceClaimGranularStatusAuthorization DRAResourcePoolStatus
	DRASchedulerFilterTimeout DeclarativeValidation DeclarativeValidationBeta DeclarativeValidationTakeover
	DeploymentReplicaSetTerminatingReplicas DetectCacheInconsistency DisableAllocatorDualWrite
	ExternalServiceAccountTokenSigner GangScheduling GenericWorkload HPAConfigurableTolerance HPAScaleToZero
	InOrderInformers InOrderInformersBatchProcess InformerResourceVersion JobBackoffLimitPerIndex JobManagedBy
	JobPodReplacementPolicy JobSuccessPolicy KMSv1 ListFromCacheSnapshot LogarithmicScaleDown LoggingStableOptions
	ManifestBasedAdmissionControlConfig MatchLabelKeysInPodAffinity MatchLabelKeysInPodTopologySpread
	MatchLabelKeysInPodTopologySpreadSelectorMerge MaxUnavailableStatefulSet MutablePVNodeAffinity
	MutablePodResourcesForSuspendedJobs MutableSchedulingDirectivesForSuspendedJobs MutatingAdmissionPolicy
	NativeHistograms NodeInclusionPolicyInPodTopologySpread NominatedNodeNameForExpectation OpenAPIEnums
	OpportunisticBatching OrderedNamespaceDeletion PersistentVolumeClaimUnusedSinceTime PodDeletionCost
	PodSchedulingReadiness PodTopologyLabelsAdmission RelaxedServiceNameValidation RemoteRequestHeaderUID
	ResilientWatchCacheInitialization RetryGenerateName SchedulerAsyncAPICalls SchedulerAsyncPreemption
	SchedulerPopFromBackoffQ SchedulerQueueingHints SeparateCacheWatchRPC SeparateTaintEvictionController
	ServiceAccountNodeAudienceRestriction ServiceAccountTokenJTI ServiceAccountTokenNodeBinding
	ServiceAccountTokenNodeBindingValidation ServiceCIDRStatusFieldWiping ShardedListAndWatch SizeBasedListCostEstimate
	StaleControllerConsistencyDaemonSet StaleControllerConsistencyJob StaleControllerConsistencyReplicaSet
	StaleControllerConsistencyStatefulSet StatefulSetSemanticRevisionComparison StorageCapacityScoring
	StorageNamespaceIndex StorageVersionAPI StorageVersionHash StorageVersionMigrator StreamingCollectionEncodingToJSON
	StreamingCollectionEncodingToProtobuf StrictIPCIDRValidation StructuredAuthenticationConfiguration
	StructuredAuthenticationConfigurationEgressSelector StructuredAuthenticationConfigurationJWKSMetrics
	TokenRequestServiceAccountUIDValidation TopologyAwareWorkloadScheduling UnauthenticatedHTTP2DOSMitigation
	UnknownVersionInteroperabilityProxy UnlockWhileProcessingFIFO VolumeLimitScaling
	WatchCacheInitializationPostStartHook WatchList WatchListClient WorkloadAwarePreemption WorkloadWithJob`
	// gatesLocked are those of gatesOn that upstream refuses to turn off.
	gatesLocked = `
	CPUManagerPolicyOptions DRAAdminAccess DisableNodeKubeProxyVersion ExecProbeTimeout ImageMaximumGCAge ImageVolume
	InPlacePodVerticalScaling KubeletCgroupDriverFromCRI KubeletFineGrainedAuthz KubeletPSI
	KubeletPodResourcesDynamicResources KubeletPodResourcesGet MultiCIDRServiceAllocator MutableCSINodeAllocatableCount
	NFTablesProxyMode NodeLogQuery NodeSwap PodLifecycleSleepAction PodLifecycleSleepActionAllowZero
	PodObservedGenerationTracking PreferSameTrafficDistribution ProcMountType RecoverVolumeExpansionFailure
	RecursiveReadOnlyMounts RelaxedDNSSearchValidation RelaxedEnvironmentVariableValidation SELinuxMountReadWriteOncePod
	ServiceAccountTokenPodNodeInfo SidecarContainers SupplementalGroupsPolicy SystemdWatchdog
	TopologyManagerPolicyOptions UserNamespacesSupport`
)

// judgeGates says of each gate in a file why it changes nothing; one that asks for what is so anyway goes
// without a word.
func judgeGates(d *Document, path string, entries map[string]any) []Ignored {
	fates := gateFates()
	var all []Ignored
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		value := plain(entries[name])
		if why := fates[name].why(value == "true"); why != "" {
			all = append(all, Ignored{Field: path + "." + name, From: d.from[path+"."+name], Value: value, Why: why})
		}
	}
	return all
}

// gateFate is what is known of a gate; the zero value: nothing.
type gateFate struct{ on, off, elsewhere, locked bool }

func gateFates() map[string]gateFate {
	fates := map[string]gateFate{}
	for _, name := range strings.Fields(gatesOn) {
		fates[name] = gateFate{on: true}
	}
	for _, name := range strings.Fields(gatesLocked) {
		fates[name] = gateFate{on: true, locked: true}
	}
	for _, name := range strings.Fields(gatesOff) {
		fates[name] = gateFate{off: true}
	}
	for _, name := range strings.Fields(gatesElsewhere) {
		fates[name] = gateFate{elsewhere: true}
	}
	return fates
}

// why a gate with that value changes nothing; empty where it says what is so.
func (f gateFate) why(wanted bool) string {
	switch {
	case wanted == f.on && (f.on || f.off):
		return ""
	case f.locked:
		return "the feature is part of Kubernetes for good, upstream's kubelet does not start with this: remove the line"
	case f.on:
		return "the feature is always on here"
	case f.off:
		return "the feature is not part of this version"
	case f.elsewhere:
		return "it is no gate of a node"
	}
	return fmt.Sprintf("there is no such gate in Kubernetes %s: misspelled, of another version, or of a feature that has become part of Kubernetes", gatesOf)
}

// gatesOf is the version of Kubernetes that the gates are known of.
const gatesOf = "1.36"
