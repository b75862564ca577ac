package addons

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applyrbacv1 "k8s.io/client-go/applyconfigurations/rbac/v1"

	"nodelet/controlplane/pki"
)

// DNSProxyName marks the DNS Service as served by the node daemon itself, so
// that neither our proxy nor anybody's kube-proxy programs its address.
const DNSProxyName = "nodelet-dns"

// GroupJoining is the group of tokens that nodes join with.
const GroupJoining = "system:bootstrappers:nodelet"

const (
	dnsNamespace = "kube-system"
	dnsName      = "kube-dns" // the name that every cluster's tools look for

	labelProxyName = "service.kubernetes.io/service-proxy-name"
	roleNode       = "nodelet:node"
)

// dnsService has no selector: every node answers at its address by itself.
func dnsService(address netip.Addr) *applycorev1.ServiceApplyConfiguration {
	port := func(name string, protocol corev1.Protocol, number int32) *applycorev1.ServicePortApplyConfiguration {
		return applycorev1.ServicePort().WithName(name).WithProtocol(protocol).
			WithPort(number).WithTargetPort(intstr.FromInt32(number))
	}
	return applycorev1.Service(dnsName, dnsNamespace).
		WithLabels(map[string]string{
			"k8s-app":                       dnsName,
			"kubernetes.io/cluster-service": "true",
			"kubernetes.io/name":            "CoreDNS",
			labelProxyName:                  DNSProxyName,
		}).
		WithSpec(applycorev1.ServiceSpec().
			WithType(corev1.ServiceTypeClusterIP).
			WithClusterIP(address.String()).
			WithPorts(
				port("dns", corev1.ProtocolUDP, 53),
				port("dns-tcp", corev1.ProtocolTCP, 53),
				port("metrics", corev1.ProtocolTCP, 9153),
			))
}

// nodeRole is what the node daemon needs beyond a kubelet's rights, which the
// Node authorizer grants: proxy, DNS and policy read these.
func nodeRole() *applyrbacv1.ClusterRoleApplyConfiguration {
	read := func(group string, resources ...string) *applyrbacv1.PolicyRuleApplyConfiguration {
		return applyrbacv1.PolicyRule().WithAPIGroups(group).WithResources(resources...).
			WithVerbs("get", "list", "watch")
	}
	events := applyrbacv1.PolicyRule().WithAPIGroups("", "events.k8s.io").WithResources("events").
		WithVerbs("create", "patch", "update")
	// The Corefile that the node's DNS reads, when somebody made one.
	corefile := read("", "configmaps").WithResourceNames("coredns")
	return applyrbacv1.ClusterRole(roleNode).WithRules(
		read("", "services", "nodes", "namespaces"),
		read("discovery.k8s.io", "endpointslices"),
		read("networking.k8s.io", "networkpolicies", "servicecidrs"),
		corefile,
		events,
	)
}

func bindings() []*applyrbacv1.ClusterRoleBindingApplyConfiguration {
	nodes := applyrbacv1.Subject().WithAPIGroup(rbacv1.GroupName).WithKind(rbacv1.GroupKind).WithName("system:nodes")
	joining := applyrbacv1.Subject().WithAPIGroup(rbacv1.GroupName).WithKind(rbacv1.GroupKind).WithName(GroupJoining)
	apiserver := applyrbacv1.Subject().WithAPIGroup(rbacv1.GroupName).WithKind(rbacv1.UserKind).WithName(pki.UserKubeletClient)
	return []*applyrbacv1.ClusterRoleBindingApplyConfiguration{
		binding("nodelet:node", roleNode, nodes),
		// Who has a token to join may ask for the identity of a node, and gets it.
		binding("nodelet:node-bootstrapper", "system:node-bootstrapper", joining),
		binding("nodelet:node-certificate",
			"system:certificates.k8s.io:certificatesigningrequests:nodeclient", joining),
		// A node may renew its own client certificate without being asked.
		binding("nodelet:node-certificate-renewal",
			"system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", nodes),
		// logs, exec and port-forward reach the node's kubelet API as this user.
		binding("nodelet:kubelet-api", "system:kubelet-api-admin", apiserver),
	}
}

func binding(name, role string, who *applyrbacv1.SubjectApplyConfiguration) *applyrbacv1.ClusterRoleBindingApplyConfiguration {
	return applyrbacv1.ClusterRoleBinding(name).WithSubjects(who).
		WithRoleRef(applyrbacv1.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName(role))
}
