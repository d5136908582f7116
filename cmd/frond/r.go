package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
	"github.com/spf13/cobra"
)

// newRCmd is `frond R`, which reads, combines and writes resource sets.
func newRCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "R COMMAND",
		Short: "Read, combine and write sets of resources, as R version 1",
		Long: `Read, combine and write sets of resources as R version 1 (Flux RFC 20): what frond resource R prints, frond job info ID R,
and what frond start --resources @FILE offers. Sets come on standard input, one JSON object after the other.`,
		Example: `  frond R encode -r 0-3 -c 0-7 -g 0-1 -H 'n[0-3]' -p fast:0-1 >R
  frond resource R | frond R decode --short`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newREncodeCmd(e), newRDecodeCmd(e), newRVerifyCmd(e), newRSetPropertyCmd(e), newRParseConfigCmd(e),
		newRCombineCmd(e, "append", "Print one set with the resources of all", `Print one R with what all sets have. What two have in common is an error.`,
			func(a, b resource.R) (resource.R, error) { return a.Append(b) }),
		newRCombineCmd(e, "diff", "Print what the first set has and the others have not", `Print the first R without what the others have.`,
			func(a, b resource.R) (resource.R, error) { return a.Diff(b), nil }),
		newRCombineCmd(e, "intersect", "Print what all sets have", `Print what all sets have. A node is the same in two sets if rank and name are.`,
			func(a, b resource.R) (resource.R, error) { return a.Intersect(b), nil }),
		newRCombineCmd(e, "remap", "Print the resources with ranks and cores numbered from 0", `Print one R with what all sets have, its ranks, and the cores of each rank, numbered
from 0. Gpus keep their ids.`, nil))
	return cmd
}

const rExits = "\n\nExit codes: 0, or 1 when standard input is no R or does not fit."

// newRCombineCmd is a verb that makes one set of those on standard input; with combine nil they are appended and numbered anew.
func newRCombineCmd(e *env, name, short, long string, combine func(a, b resource.R) (resource.R, error)) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Long: long + rExits, Example: "  cat R1 R2 | frond R " + name, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			list, err := readRs(e)
			if err != nil {
				return err
			}
			f := combine
			if f == nil {
				f = resource.R.Append
			}
			out := list[0]
			for _, r := range list[1:] {
				if out, err = f(out, r); err != nil {
					return err
				}
			}
			if combine == nil {
				out = out.Remap()
			}
			return writeR(e, out)
		},
	}
}

// readRs reads the sets on standard input, at least one.
func readRs(e *env) ([]resource.R, error) {
	data, err := io.ReadAll(e.stdin)
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	var list []resource.R
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		var one json.RawMessage
		err := dec.Decode(&one)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("standard input: R is JSON: %w", err)
		}
		r, err := resource.DecodeR(one)
		if err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		return nil, errors.New("standard input is empty: an R is expected there, as 'frond resource R' prints one")
	}
	return list, nil
}

// readR appends all sets on standard input.
func readR(e *env) (resource.R, error) {
	list, err := readRs(e)
	if err != nil {
		return resource.R{}, err
	}
	out := list[0]
	for _, r := range list[1:] {
		if out, err = out.Append(r); err != nil {
			return out, err
		}
	}
	return out, nil
}

func writeR(e *env, r resource.R) error {
	_, err := e.stdout.Write(append(resource.EncodeR(r), '\n'))
	return err
}

type rEncode struct {
	ranks, cores, gpus, hosts string
	properties                []string
	local                     bool
}

func newREncodeCmd(e *env) *cobra.Command {
	o := &rEncode{}
	cmd := &cobra.Command{
		Use:   "encode [-r RANKS] [-c CORES] [-g GPUS] [-H HOSTS] [-p NAME[:RANKS]] [--local]",
		Short: "Write a set of resources",
		Long: `Write an R with the same cores and gpus on each rank. Ranks are numbered as there are hosts, 0 without any; hosts are named by rank.
With --local it has what this host has.

Exit codes: 0, or 1 when the options do not fit together.`,
		Example: "  frond R encode -r 0-3 -c 0-7 -g 0-1 -H 'n[0-3]' -p fast:0-1\n  frond R encode --local",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(e) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.ranks, "ranks", "r", "", "the ranks, an `IDSET`")
	f.StringVarP(&o.cores, "cores", "c", "", "the cores of each, an `IDSET` (default 0)")
	f.StringVarP(&o.gpus, "gpus", "g", "", "the gpus of each, an `IDSET`")
	f.StringVarP(&o.hosts, "hosts", "H", "", "the hosts of the ranks, a `HOSTLIST`")
	f.StringArrayVarP(&o.properties, "property", "p", nil, "a property, `NAME[:RANKS]`; may be repeated")
	f.BoolVarP(&o.local, "local", "l", false, "what this host has")
	return cmd
}

func (o *rEncode) run(e *env) error {
	nodes, err := o.nodes()
	if err != nil {
		return err
	}
	return setAndWrite(e, resource.R{Nodes: nodes}, o.properties)
}

// setAndWrite prints a set with properties added.
func setAndWrite(e *env, r resource.R, properties []string) error {
	list, err := resource.ParseProperties(properties)
	if err != nil {
		return err
	}
	for i := range list {
		if err := list[i].Missing(r.Nodes); err != nil {
			return err
		}
	}
	resource.SetProperties(r.Nodes, list)
	return writeR(e, r)
}

func (o *rEncode) nodes() ([]resource.Node, error) {
	if o.local {
		if o.ranks+o.cores+o.gpus+o.hosts != "" {
			return nil, errors.New("--local says all but properties: leave out the other options")
		}
		return localNodes()
	}
	hosts, err := hostlist.Parse(o.hosts)
	if err != nil {
		return nil, fmt.Errorf("--hosts: %w", err)
	}
	ranks, err := idset.Parse(o.ranks)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--ranks: %w", err)
	case o.ranks == "":
		ranks = idset.FromRange(0, max(1, len(hosts))-1)
	}
	if len(hosts) == 0 {
		for id := range ranks.All() {
			if len(hosts) >= resource.MaxNodes {
				return nil, fmt.Errorf("--ranks: more than %d", resource.MaxNodes)
			}
			hosts = append(hosts, fmt.Sprintf("node%d", id))
		}
	}
	if len(hosts) != ranks.Len() {
		return nil, fmt.Errorf("%d hosts for %d ranks", len(hosts), ranks.Len())
	}
	if o.cores == "" {
		o.cores = "0"
	}
	cores, err := resource.ParseMask(o.cores)
	if err != nil {
		return nil, fmt.Errorf("--cores: %w", err)
	}
	gpus, err := resource.ParseMask(o.gpus)
	if err != nil {
		return nil, fmt.Errorf("--gpus: %w", err)
	}
	var nodes []resource.Node
	for id := range ranks.All() {
		nodes = append(nodes, resource.Node{Index: id, Name: hosts[len(nodes)], Cores: cores, GPUs: gpus})
	}
	return nodes, nil
}

func newRSetPropertyCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "set-property NAME[:RANKS|HOSTS] …",
		Short:   "Give ranks properties",
		Long:    "Print the R on standard input with properties added, each for some ranks or hosts, or for all." + rExits,
		Example: "  frond resource R | frond R set-property big:0-3 'fast:n[7-8]'",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := readR(e)
			if err != nil {
				return err
			}
			return setAndWrite(e, r, args)
		},
	}
}

type rDecode struct {
	include, exclude, properties, count string
	short, nodelist, ranks              bool
}

func newRDecodeCmd(e *env) *cobra.Command {
	o := &rDecode{}
	cmd := &cobra.Command{
		Use:   "decode [-i RANKS] [-x RANKS] [-p QUERY] [--short|--nodelist|--ranks|--count=TYPE]",
		Short: "Print a set of resources, or a part of it, in one form or another",
		Long: `Print the R on standard input, or the part of it that --include, --exclude and --properties leave: as R again, or what
--short, --nodelist, --ranks and --count say, each on a line.` + rExits,
		Example: "  frond resource R | frond R decode --short\n  frond resource R | frond R decode -p 'big&^gpu' --count=core",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return o.run(e) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.include, "include", "i", "", "these ranks alone, an `IDSET`")
	f.StringVarP(&o.exclude, "exclude", "x", "", "without these ranks, an `IDSET`")
	f.StringVarP(&o.properties, "properties", "p", "", "the nodes that a `QUERY` matches, as submit --requires takes it; of names with commas all count")
	f.BoolVarP(&o.short, "short", "s", false, "print the short form")
	f.BoolVarP(&o.nodelist, "nodelist", "n", false, "print the hosts")
	f.BoolVarP(&o.ranks, "ranks", "r", false, "print the ranks")
	f.StringVarP(&o.count, "count", "c", "", "print how many there are of `TYPE`: node, core or gpu")
	return cmd
}

func (o *rDecode) run(e *env) error {
	if o.count != "" && o.count != "node" && o.count != "core" && o.count != "gpu" {
		return fmt.Errorf("--count=%s: must be node, core or gpu", o.count)
	}
	keep, err := o.filter()
	if err != nil {
		return err
	}
	r, err := readR(e)
	if err != nil {
		return err
	}
	r = r.Filter(keep)
	if !o.short && !o.nodelist && !o.ranks && o.count == "" {
		return writeR(e, r)
	}
	var b bytes.Buffer
	var ranks idset.Set
	names := make([]string, len(r.Nodes))
	counts := map[string]int{"node": len(r.Nodes)}
	for i := range r.Nodes {
		n := &r.Nodes[i]
		ranks.Add(n.Index)
		names[i] = n.Name
		counts["core"] += n.Cores.Count()
		counts["gpu"] += n.GPUs.Count()
	}
	if o.short {
		fmt.Fprintln(&b, r.Short())
	}
	if o.nodelist {
		fmt.Fprintln(&b, hostlist.Encode(names))
	}
	if o.ranks {
		fmt.Fprintln(&b, ranks.String())
	}
	if o.count != "" {
		fmt.Fprintln(&b, counts[o.count])
	}
	_, err = e.stdout.Write(b.Bytes())
	return err
}

// filter tells which nodes are wanted.
func (o *rDecode) filter() (func(*resource.Node) bool, error) {
	include, err := idset.Parse(o.include)
	if err != nil {
		return nil, fmt.Errorf("--include: %w", err)
	}
	exclude, err := idset.Parse(o.exclude)
	if err != nil {
		return nil, fmt.Errorf("--exclude: %w", err)
	}
	query := &jobspec.Constraint{Op: "and"}
	if o.properties != "" {
		if query, err = jobspec.ParseQuery(o.properties, "properties"); err != nil {
			return nil, fmt.Errorf("--properties: %w", err)
		}
	}
	return func(n *resource.Node) bool {
		return (o.include == "" || include.Has(n.Index)) && !exclude.Has(n.Index) && query.Match(rTarget{n})
	}, nil
}
