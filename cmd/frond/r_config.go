package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/config"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/probe"
	"github.com/spf13/cobra"
)

// rTarget is a node of R as constraints see it.
type rTarget struct{ n *resource.Node }

func (t rTarget) Rank() int                    { return t.n.Index }
func (t rTarget) Host() string                 { return t.n.Name }
func (t rTarget) HasProperty(name string) bool { return slices.Contains(t.n.Properties, name) }

// localNodes is what this host has.
func localNodes() ([]resource.Node, error) {
	n, err := probe.Probe("/")
	if err != nil {
		return nil, fmt.Errorf("find out what this host has: %w", err)
	}
	return []resource.Node{n}, nil
}

func newRVerifyCmd(e *env) *cobra.Command {
	extra := true
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that this host has what a set says",
		Long: `Check that this host has the cores and gpus that the R on standard input says of it. What it has beyond that is told,
and with --allow-extra=false an error.

Exit codes: 0, or 1 when something is missing, and when the R does not name this host.`,
		Example: "  frond R verify <R",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			r, err := readR(e)
			if err != nil {
				return err
			}
			here, err := localNodes()
			if err != nil {
				return err
			}
			return verifyR(e, r, &here[0], extra)
		},
	}
	cmd.Flags().BoolVar(&extra, "allow-extra", true, "more than the R says is no error")
	return cmd
}

// verifyR compares what r says of the host with what it has.
func verifyR(e *env, r resource.R, here *resource.Node, extra bool) error {
	short, _, _ := strings.Cut(here.Name, ".")
	i := slices.IndexFunc(r.Nodes, func(n resource.Node) bool { return n.Name == here.Name || n.Name == short })
	if i < 0 {
		return fmt.Errorf("the R does not name this host, %s", here.Name)
	}
	n := &r.Nodes[i]
	var bad, more []string
	for _, c := range []struct {
		what       string
		want, have resource.Mask
	}{{"core", n.Cores, here.Cores}, {"gpu", n.GPUs, here.GPUs}} {
		if m := c.want.Minus(c.have); !m.Empty() {
			bad = append(bad, c.what+"["+m.String()+"]")
		}
		if m := c.have.Minus(c.want); !m.Empty() {
			more = append(more, c.what+"["+m.String()+"]")
		}
	}
	switch {
	case len(bad) > 0:
		return fmt.Errorf("rank %d (%s) has missing resources: %s", n.Index, n.Name, strings.Join(bad, ","))
	case len(more) > 0 && !extra:
		return fmt.Errorf("rank %d (%s) has extra resources: %s", n.Index, n.Name, strings.Join(more, ","))
	case len(more) > 0:
		fmt.Fprintf(e.stderr, "rank %d (%s) has extra resources: %s\n", n.Index, n.Name, strings.Join(more, ","))
	}
	return nil
}

func newRParseConfigCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "parse-config PATH",
		Short: "Print the resources of a configuration of Flux",
		Long: `Print as R what the table [resource] in a configuration of Flux says: a file, or a directory with files *.toml. Its entries
config = [{hosts, cores, gpus, properties}, …] describe hosts, which are ranked in their order, or path = FILE names an R.

Exit codes: 0, or 1 when it cannot be read or describes no resources.`,
		Example: "  frond R parse-config /etc/flux/system/conf.d >R\n  frond start --resources @R ./sweep.sh",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := fluxResources(args[0])
			if err != nil {
				return err
			}
			return writeR(e, r)
		},
	}
}

// fluxResources reads [resource] of Flux.
func fluxResources(path string) (resource.R, error) {
	files := []string{path}
	if fi, err := os.Stat(path); err != nil {
		return resource.R{}, err
	} else if fi.IsDir() {
		files, _ = filepath.Glob(filepath.Join(path, "*.toml"))
	}
	for _, f := range files {
		c, err := config.ReadFlux(f)
		if err != nil {
			return resource.R{}, err
		}
		switch {
		case len(c.Hosts) > 0:
			return fluxHosts(f, c.Hosts)
		case c.Path != "":
			data, err := os.ReadFile(c.Path)
			if err != nil {
				return resource.R{}, fmt.Errorf("%s: resource.path: %w", f, err)
			}
			return resource.DecodeR(data)
		}
	}
	return resource.R{}, fmt.Errorf("%s: there is no resource.config and no resource.path", path)
}

// fluxHosts makes a set of entries, of which several may describe one host.
func fluxHosts(file string, entries []config.FluxHosts) (resource.R, error) {
	var r resource.R
	at := map[string]int{}
	for i := range entries {
		h := &entries[i]
		names, err := hostlist.Parse(h.Hosts)
		var cores, gpus resource.Mask
		if err == nil && len(names) == 0 {
			err = errors.New("hosts is missing")
		}
		if err == nil {
			cores, err = resource.ParseMask(h.Cores)
		}
		if err == nil {
			gpus, err = resource.ParseMask(h.GPUs)
		}
		if err != nil {
			return r, fmt.Errorf("%s: resource.config[%d]: %w", file, i, err)
		}
		for _, name := range names {
			k, known := at[name]
			if !known {
				k = len(r.Nodes)
				at[name] = k
				r.Nodes = append(r.Nodes, resource.Node{Index: k, Name: name})
			}
			n := &r.Nodes[k]
			n.Cores, n.GPUs = n.Cores.Union(cores), n.GPUs.Union(gpus)
			for _, p := range h.Properties {
				if _, err := resource.ParseProperty(p); err != nil || strings.Contains(p, ":") {
					return r, fmt.Errorf("%s: resource.config[%d]: invalid property name %q", file, i, p)
				}
				n.AddProperty(p)
			}
		}
	}
	for i := range r.Nodes {
		if r.Nodes[i].Cores.Empty() {
			return r, fmt.Errorf("%s: resource.config: host %s has no cores", file, r.Nodes[i].Name)
		}
	}
	return r, nil
}
