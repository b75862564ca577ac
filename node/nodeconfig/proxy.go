package nodeconfig

// Reasons that several fields share.
const (
	whyWindows    = "Windows only"
	whyOneClient  = "the daemon has one client for all it does: kubeAPIQPS and kubeAPIBurst of KubeletConfiguration bound it"
	whyEventDrive = "rules follow each change at once; they are compared with the kernel every 30 s"
)

// Ports of kube-proxy's health and metrics.
const (
	proxyHealthPort  = 10256
	proxyMetricsPort = 10249
)

// proxyFields is what becomes of each field of KubeProxyConfiguration, in its order.
func proxyFields() []field {
	return []field{
		{path: "featureGates", why: whyNoGates, each: judgeGates},
		{path: "clientConnection.kubeconfig", why: "the daemon has one identity, that of --kubeconfig"},
		{path: "clientConnection.acceptContentTypes", why: "Protobuf is used where the server knows it"},
		{path: "clientConnection.contentType", why: "Protobuf is used where the server knows it"},
		{path: "clientConnection.qps", why: whyOneClient},
		{path: "clientConnection.burst", why: whyOneClient},
		{path: "logging", flag: "log-level", text: logLevel, also: &field{path: "logging", flag: "logging-format", text: logFormat}},
		{path: "hostnameOverride", flag: "hostname-override"},
		{path: "bindAddress", is: []string{"0.0.0.0", "::"}, why: "the primary address family is that of --node-ip"},
		{path: "healthzBindAddress", flag: "proxy-healthz-address", text: hostPort(proxyHealthPort)},
		{path: "metricsBindAddress", flag: "metrics-address", text: hostPort(proxyMetricsPort)},
		{path: "bindAddressHardFail", is: []string{"true"}, why: "an address that is taken is always an error"},
		{path: "enableProfiling", flag: "profiling"},
		{path: "showHiddenMetricsForVersion", why: "no metrics are hidden"},
		{path: "mode", flag: "proxy-mode"},
		{path: "iptables.masqueradeBit", flag: "iptables-masquerade-bit", text: ofMode("iptables", "masqueradeBit")},
		{path: "iptables.masqueradeAll", flag: "masquerade-all"},
		{path: "iptables.localhostNodePorts", flag: "iptables-localhost-nodeports", zero: true},
		{path: "iptables.syncPeriod", why: whyEventDrive},
		{path: "iptables.minSyncPeriod", why: whyEventDrive},
		{path: "ipvs.syncPeriod", why: whyEventDrive},
		{path: "ipvs.minSyncPeriod", why: whyEventDrive},
		{path: "ipvs.scheduler", flag: "ipvs-scheduler"},
		{path: "ipvs.excludeCIDRs", why: "virtual servers of others are never touched"},
		{path: "ipvs.strictARP", flag: "ipvs-strict-arp"},
		{path: "ipvs.tcpTimeout", flag: "ipvs-tcp-timeout"},
		{path: "ipvs.tcpFinTimeout", flag: "ipvs-tcpfin-timeout"},
		{path: "ipvs.udpTimeout", flag: "ipvs-udp-timeout"},
		{path: "nftables.masqueradeBit", flag: "iptables-masquerade-bit", text: ofMode("nftables", "masqueradeBit")},
		{path: "nftables.masqueradeAll", flag: "masquerade-all"},
		{path: "nftables.syncPeriod", why: whyEventDrive},
		{path: "nftables.minSyncPeriod", why: whyEventDrive},
		{path: "winkernel.networkName", why: whyWindows},
		{path: "winkernel.sourceVip", why: whyWindows},
		{path: "winkernel.enableDSR", why: whyWindows},
		{path: "winkernel.rootHnsEndpointName", why: whyWindows},
		{path: "winkernel.forwardHealthCheckVip", why: whyWindows},
		{path: "detectLocalMode", flag: "detect-local-mode"},
		{path: "detectLocal.bridgeInterface", flag: "pod-bridge-interface"},
		{path: "detectLocal.interfaceNamePrefix", flag: "pod-interface-name-prefix"},
		{path: "clusterCIDR", flag: "cluster-cidr"},
		{path: "nodePortAddresses", flag: "nodeport-addresses"},
		{path: "oomScoreAdj", set: into(oomScore)},
		{path: "conntrack.maxPerCore", flag: "conntrack-max-per-core", zero: true},
		{path: "conntrack.min", flag: "conntrack-min", zero: true},
		{path: "conntrack.tcpEstablishedTimeout", flag: "conntrack-tcp-timeout-established", zero: true},
		{path: "conntrack.tcpCloseWaitTimeout", flag: "conntrack-tcp-timeout-close-wait", zero: true},
		{path: "conntrack.tcpBeLiberal", flag: "conntrack-tcp-be-liberal"},
		{path: "conntrack.udpTimeout", flag: "conntrack-udp-timeout"},
		{path: "conntrack.udpStreamTimeout", flag: "conntrack-udp-timeout-stream"},
		{path: "configSyncPeriod", why: "objects are watched, not asked for at intervals"},
		{path: "portRange", why: "the proxy opens no ports"},
		{path: "windowsRunAsService", why: whyWindows},
	}
}

// ofMode lets the section of the chosen mode win over the other's.
func ofMode(section, name string) func(*Document, any) (string, error) {
	return func(d *Document, v any) (string, error) {
		if mode, ok := d.get("mode").(string); ok && mode != section {
			if other := d.get(mode + "." + name); other != nil {
				return plain(other), nil
			}
		}
		return plain(v), nil
	}
}
