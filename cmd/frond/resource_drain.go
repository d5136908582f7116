package main

import (
	"context"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/spf13/cobra"
)

type resourceDrainOptions struct {
	force          int
	update         bool
	format         string
	noHeader, json bool
	choice         nodeChoice
}

func newResourceDrainCmd(e *env) *cobra.Command {
	o := &resourceDrainOptions{}
	cmd := &cobra.Command{
		Use:   "drain [OPTIONS] [TARGETS [REASON…]]",
		Short: "Take nodes out of use, or list those that are",
		Long: `Give no new work to nodes; jobs that run there go on. TARGETS are node ranks (0-3) or names
(node[0-3]). Without them the drained nodes are listed.

Exit codes: 0, or 1 when a target is unknown, or drained already for another reason (unless -u or -f).`,
		Example: "  frond resource drain 3 bad disk\n  frond resource drain",
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.CountVarP(&o.force, "force", "f", "replace the reason of nodes that are drained already; twice: their time too")
	f.BoolVarP(&o.update, "update", "u", false, "leave nodes that are drained already as they are, without an error")
	f.StringVarP(&o.format, "format", "o", "", "output format of the list, or its name; help lists them")
	f.BoolVarP(&o.noHeader, "no-header", "n", false, "list without a line of headers")
	f.BoolVar(&o.json, "json", false, "list as JSON")
	o.choice.add(f)
	f.StringVarP(&e.color, "color", "L", "auto", "colour the output: auto, always or never")
	return cmd
}

func (o *resourceDrainOptions) run(ctx context.Context, e *env, args []string) error {
	if len(args) == 0 {
		return o.list(ctx, e)
	}
	req := api.DrainReq{Targets: args[0], Reason: strings.Join(args[1:], " "), Force: o.force > 1, Update: o.force > 0, Strict: !o.update}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = client.Call(ctx, c, api.ResourceDrain, req)
	return err
}

func (o *resourceDrainOptions) list(ctx context.Context, e *env) error {
	if o.format == "help" {
		return printFormats(e.stdout, "frond resource drain", drainFormats, groupHeaders)
	}
	f, err := pickFormat(e, o.format, "FROND_RESOURCE_DRAIN_FORMAT_DEFAULT", drainFormats, groupHeader)
	if err != nil {
		return err
	}
	nodes, err := nodeStatus(ctx, e, o.choice)
	if err != nil {
		return err
	}
	drained := func(n *api.NodeStatus) bool { return n.Drained }
	if o.json {
		return printNodesJSON(e, nodes, drained)
	}
	return printGroups(e, availabilityGroups(nodes, drained, true).list, f, o.noHeader)
}

func newResourceUndrainCmd(e *env) *cobra.Command {
	force, update := false, false
	cmd := &cobra.Command{
		Use:   "undrain [-f] TARGETS [REASON…]",
		Short: "Put drained nodes back into use",
		Long: `Give work to drained nodes again. TARGETS are node ranks (0-3) or names (node[0-3]).

Exit codes: 0, or 1 when a target is unknown or not drained (unless -f or -u).`,
		Example: "  frond resource undrain 3",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			req := api.DrainReq{Targets: args[0], Reason: strings.Join(args[1:], " "), Force: force || update}
			_, err = client.Call(cmd.Context(), c, api.ResourceUndrain, req)
			return err
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "no error for nodes that are not drained")
	cmd.Flags().BoolVarP(&update, "update", "u", false, "same as --force")
	return cmd
}
