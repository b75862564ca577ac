package volumeplan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"nodelet/internal/model"
)

// String prints the plan: one line for the pod, for each volume and for each
// thing in it, without any content.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pod %s\n", p.UID)
	for i := range p.Volumes {
		b.WriteString(p.Volumes[i].String())
	}
	return b.String()
}

// String is one line for the volume and one for each thing in it.
func (v *Volume) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %s %s", v.Name, v.Kind)
	if v.Path != "" {
		b.WriteString(" " + v.Path)
	}
	if v.Type != "" {
		fmt.Fprintf(&b, " type %s", v.Type)
	}
	if v.Mode != 0 {
		fmt.Fprintf(&b, " %04o", v.Mode)
	}
	if v.GID >= 0 {
		fmt.Fprintf(&b, " group %d", v.GID)
	}
	if v.Size != 0 {
		fmt.Fprintf(&b, " size %d", v.Size)
	}
	if v.PageSize != 0 {
		fmt.Fprintf(&b, " pages of %d", v.PageSize)
	}
	if v.ReadOnly {
		b.WriteString(" read-only")
	}
	if o := v.Own; o != nil {
		fmt.Fprintf(&b, " owned by group %d", o.GID)
		if o.OnlyOnMismatch {
			b.WriteString(" unless the root is")
		}
	}
	b.WriteByte('\n')
	if d := v.Disk; d != nil {
		fmt.Fprintf(&b, "    a device is mounted on %s", d.Dir)
		fsAndOptions(&b, d.FSType, d.Options)
		b.WriteByte('\n')
	}
	if v.CSI != nil {
		b.WriteString(v.CSI.String())
	}
	if v.Payload != nil {
		b.WriteString(v.Payload.String())
	}
	switch {
	case v.Problem.Wait:
		fmt.Fprintf(&b, "    waiting: %s\n", v.Problem.Text)
	case v.Problem.Text != "":
		fmt.Fprintf(&b, "    problem: %s\n", v.Problem.Text)
	}
	return b.String()
}

func fsAndOptions(b *strings.Builder, fsType string, options []string) {
	if fsType != "" {
		b.WriteString(" fs " + fsType)
	}
	if len(options) > 0 {
		fmt.Fprintf(b, " options %q", options)
	}
}

// String is one line for each file, token and directory.
func (p *Payload) String() string {
	var b strings.Builder
	for _, f := range p.Files {
		fmt.Fprintf(&b, "    file %s %04o %d bytes%s\n", f.Path, f.Mode, len(f.Data), owner(f.UID))
	}
	for _, t := range p.Tokens {
		fmt.Fprintf(&b, "    token %s %04o audience %q for %s%s\n", t.Path, t.Mode, t.Audience, t.Lifetime, owner(t.UID))
	}
	for _, c := range p.Certificates {
		fmt.Fprintf(&b, "    certificate %s %04o %s of signer %s%s\n", strings.Join(c.Paths(), " "), c.Mode, c.KeyType, c.Signer, owner(c.UID))
	}
	for _, dir := range p.Nested {
		fmt.Fprintf(&b, "    mount point %s\n", dir)
	}
	return b.String()
}

func owner(uid int64) string {
	if uid < 0 {
		return ""
	}
	return fmt.Sprintf(" user %d", uid)
}

// String is the kind in a few letters.
func (k Kind) String() string {
	return [...]string{"dir", "tmpfs", "host", "device", "csi", "hugetlbfs"}[k]
}

// String is one line.
func (c *CSI) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "    driver %s handle %q %s", c.Driver, c.Handle, c.AccessMode)
	for _, flag := range []struct {
		on   bool
		name string
	}{{c.Ephemeral, "ephemeral"}, {c.Block, "block"}, {c.Attach, "attach"}, {c.Republish, "republish"}} {
		if flag.on {
			b.WriteString(" " + flag.name)
		}
	}
	fsAndOptions(&b, c.FSType, c.Options)
	for _, k := range slices.Sorted(maps.Keys(c.Attributes)) {
		fmt.Fprintf(&b, " %s=%s", k, c.Attributes[k])
	}
	for _, t := range c.Tokens {
		fmt.Fprintf(&b, " token %q", t.Audience)
	}
	for _, s := range []struct {
		use string
		key model.Key
	}{{"stage", c.StageSecret}, {"publish", c.PublishSecret}, {"expand", c.ExpandSecret}} {
		if s.key.Name != "" {
			fmt.Fprintf(&b, " %s secret %s", s.use, s.key)
		}
	}
	b.WriteByte('\n')
	return b.String()
}
