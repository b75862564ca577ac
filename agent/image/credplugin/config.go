package credplugin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	kubeletv1 "k8s.io/kubelet/config/v1"
	providerv1 "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
	"sigs.k8s.io/yaml"
)

// configVersions are those of CredentialProviderConfig; their fields that are used here are the same.
var configVersions = []string{"kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1"}

// readConfig reads and checks a CredentialProviderConfig.
func readConfig(file, dir string) ([]kubeletv1.CredentialProvider, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read credential provider configuration: %w", err)
	}
	var c kubeletv1.CredentialProviderConfig
	if err := yaml.UnmarshalStrict(b, &c); err != nil {
		return nil, fmt.Errorf("read credential provider configuration %s: %w", file, err)
	}
	if c.Kind != "CredentialProviderConfig" || !slices.Contains(configVersions, c.APIVersion) {
		return nil, fmt.Errorf("credential provider configuration %s is %s %s: it must be kubelet.config.k8s.io/v1 CredentialProviderConfig", file, c.APIVersion, c.Kind)
	}
	if len(c.Providers) == 0 {
		return nil, fmt.Errorf("credential provider configuration %s names no providers", file)
	}
	seen := map[string]bool{}
	for i := range c.Providers {
		p := &c.Providers[i]
		if err := check(p, dir); err != nil {
			return nil, fmt.Errorf("credential provider configuration %s: provider %q: %w", file, p.Name, err)
		}
		if seen[p.Name] {
			return nil, fmt.Errorf("credential provider configuration %s: provider %q is there twice", file, p.Name)
		}
		seen[p.Name] = true
	}
	return c.Providers, nil
}

func check(p *kubeletv1.CredentialProvider, dir string) error {
	switch {
	case p.Name == "" || p.Name == "." || p.Name == ".." || filepath.Base(p.Name) != p.Name:
		return errors.New("its name must be that of a program in the plugin directory")
	case len(p.MatchImages) == 0:
		return errors.New("matchImages is empty: it would never be asked")
	case p.DefaultCacheDuration == nil || p.DefaultCacheDuration.Duration < 0:
		return errors.New("defaultCacheDuration must be given, and not be negative")
	case p.APIVersion != providerv1.SchemeGroupVersion.String():
		return fmt.Errorf("apiVersion %q: only %s is spoken", p.APIVersion, providerv1.SchemeGroupVersion)
	case p.TokenAttributes != nil:
		return errors.New("tokenAttributes are not supported: service account tokens are not given to plugins")
	}
	info, err := os.Stat(filepath.Join(dir, p.Name))
	switch {
	case err != nil:
		return fmt.Errorf("find its program: %w", err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is no program", filepath.Join(dir, p.Name))
	}
	return nil
}
