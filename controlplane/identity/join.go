package identity

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
)

// userJoining is what the kubeconfig of a node that joins calls its user.
const userJoining = "node-bootstrapper"

// JoinConfig says what a node that joins is told.
type JoinConfig struct {
	Server    string // URL of the API server as the node reaches it
	Authority []byte // of the cluster, in PEM
	Group     string // that the token puts its bearer into
	// TTL is how long the token works; 0 for ever.
	TTL time.Duration
}

// Join makes a token and gives a kubeconfig with it, for any number of nodes. Deleting the Secret
// bootstrap-token-<id> of kube-system revokes it.
func Join(ctx context.Context, c kubernetes.Interface, cfg JoinConfig, now time.Time) ([]byte, error) {
	id, err := random(bootstrapapi.BootstrapTokenIDBytes)
	if err != nil {
		return nil, err
	}
	secret, err := random(bootstrapapi.BootstrapTokenSecretBytes)
	if err != nil {
		return nil, err
	}
	object := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: bootstrapapi.BootstrapTokenSecretPrefix + id},
		Type:       bootstrapapi.SecretTypeBootstrapToken,
		StringData: map[string]string{
			bootstrapapi.BootstrapTokenIDKey:               id,
			bootstrapapi.BootstrapTokenSecretKey:           secret,
			bootstrapapi.BootstrapTokenDescriptionKey:      "Nodes join with it (nodelet-controlplane bootstrap-kubeconfig).",
			bootstrapapi.BootstrapTokenUsageAuthentication: "true",
			bootstrapapi.BootstrapTokenExtraGroupsKey:      cfg.Group,
		},
	}
	if cfg.TTL > 0 {
		object.StringData[bootstrapapi.BootstrapTokenExpirationKey] = now.Add(cfg.TTL).UTC().Format(time.RFC3339)
	}
	if _, err := c.CoreV1().Secrets(object.Namespace).Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("create token: %w", err)
	}
	k := newKubeconfig(cfg.Server, userJoining)
	k.Clusters[clusterName].CertificateAuthorityData = cfg.Authority
	k.AuthInfos[userJoining] = &clientcmdapi.AuthInfo{Token: id + "." + secret}
	data, err := clientcmd.Write(*k)
	if err != nil {
		return nil, fmt.Errorf("encode kubeconfig: %w", err)
	}
	return data, nil
}

// random gives n characters of a token's alphabet.
func random(n int) (string, error) {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	out := make([]byte, n)
	for i := range out {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", fmt.Errorf("make token: %w", err)
		}
		out[i] = alphabet[k.Int64()]
	}
	return string(out), nil
}
