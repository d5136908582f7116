package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/spf13/cobra"
)

// newQueueCmd is `frond queue`.
func newQueueCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "queue COMMAND",
		Short: "List, start, stop, enable, disable queues; wait until they are empty",
		Long: `An instance has one queue, or several named ones (frond start --queue). A stopped queue keeps its jobs waiting, a disabled
one takes no more.`,
		Example: "  frond queue stop -m maintenance\n  frond queue status",
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newQueueListCmd(e), newQueueStatusCmd(e), newQueueSwitchCmd(e, "enable", "take jobs again"), newQueueSwitchCmd(e, "disable", "take no more jobs"),
		newQueueSwitchCmd(e, "start", "start jobs again"), newQueueSwitchCmd(e, "stop", "start no more jobs; those that run go on"),
		newQueueWaitCmd(e, "drain"), newQueueWaitCmd(e, "idle"))
	return cmd
}

type queueSwitchOptions struct {
	verb         string
	all          bool
	quiet        bool
	verbose      bool
	noCheckpoint bool
	message      string
	json         bool
}

// newQueueSwitchCmd is one of enable, disable, start and stop.
func newQueueSwitchCmd(e *env, verb, what string) *cobra.Command {
	o := &queueSwitchOptions{verb: verb}
	off := verb == "disable" || verb == "stop"
	cmd := &cobra.Command{
		Use:   verb + " [OPTIONS] [QUEUE…]",
		Short: strings.ToUpper(what[:1]) + what[1:],
		Long: `Have queues ` + what + `. Where there are named queues, name them, or all with --all.
The state outlives a restart of the instance` + map[bool]string{true: " (not with --nocheckpoint)"}[off] + `.

Exit codes: 0, or 1 for a queue that there is not.`,
		Example: "  frond queue " + verb + " --all",
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "all queues")
	f.BoolVar(&o.quiet, "quiet", false, "do not tell the state of the queues")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "tell also how many jobs there are")
	f.BoolVar(&o.json, "json", false, "print the queues as JSON")
	if off {
		f.BoolVar(&o.noCheckpoint, "nocheckpoint", false, "only until the instance is started again")
		f.StringVarP(&o.message, "message", "m", "", "the reason, for others to see")
	}
	return cmd
}

func (o *queueSwitchOptions) run(ctx context.Context, e *env, args []string) error {
	on := o.verb == "enable" || o.verb == "start"
	req := api.QueueSetReq{Names: args, All: o.all, Reason: o.message, NoCheckpoint: o.noCheckpoint}
	if o.all && len(args) > 0 {
		return fmt.Errorf("give either queues or --all")
	}
	if o.verb == "enable" || o.verb == "disable" {
		req.Enable = &on
	} else {
		req.Start = &on
	}
	return e.connected(ctx, func(c *client.Client) error {
		if _, err := client.Call(ctx, c, api.QueueSet, req); err != nil {
			return err
		}
		if o.quiet {
			return nil
		}
		return printQueueStatus(ctx, e, c, args, o.verbose, o.json)
	})
}

func newQueueStatusCmd(e *env) *cobra.Command {
	verbose, asJSON := false, false
	cmd := &cobra.Command{
		Use:   "status [-v] [QUEUE…]",
		Short: "Tell whether queues take jobs and start them",
		Long: `Tell of the queues, or those given, whether jobs can be submitted and are started.

Exit codes: 0, or 1 for a queue that there is not.`,
		Example: "  frond queue status -v",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return e.connected(ctx, func(c *client.Client) error { return printQueueStatus(ctx, e, c, args, verbose, asJSON) })
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "tell also how many jobs there are")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the queues as JSON")
	return cmd
}

// queues fetches the queues, or those named.
func queues(ctx context.Context, c *client.Client, names []string) ([]api.QueueInfo, error) {
	rep, err := client.Call(ctx, c, api.Queues, api.Empty{})
	if err != nil || len(names) == 0 {
		return rep.Queues, err
	}
	var out []api.QueueInfo
	for _, name := range names {
		found := false
		for _, q := range rep.Queues {
			if q.Name == name {
				out, found = append(out, q), true
			}
		}
		if !found {
			return nil, noQueue(name, rep.Queues)
		}
	}
	return out, nil
}

func noQueue(name string, queues []api.QueueInfo) error {
	var names []string
	for i := range queues {
		if queues[i].Name != "" {
			names = append(names, queues[i].Name)
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("there is no queue %q: this instance has no named queues", name)
	}
	return fmt.Errorf("there is no queue %q; there are %s", name, strings.Join(names, ", "))
}

func printQueueStatus(ctx context.Context, e *env, c *client.Client, names []string, verbose, asJSON bool) error {
	list, err := queues(ctx, c, names)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(e.stdout, map[string]any{"queues": list})
	}
	for _, q := range list {
		prefix := ""
		if q.Name != "" {
			prefix = q.Name + ": "
		}
		fmt.Fprintf(e.stdout, "%sJob submission is %s\n", prefix, onOff(q.Enabled, "enabled", "disabled", escaped(q.DisableReason)))
		fmt.Fprintf(e.stdout, "%sScheduling is %s\n", prefix, onOff(q.Started, "started", "stopped", escaped(q.StopReason)))
		if verbose {
			fmt.Fprintf(e.stdout, "%s%d jobs pending\n%s%d jobs running\n", prefix, q.Pending, prefix, q.Running)
		}
	}
	return nil
}

func onOff(is bool, on, off, why string) string {
	switch {
	case is:
		return on
	case why != "":
		return off + ": " + why
	}
	return off
}

// newQueueWaitCmd is drain (until no job is active) or idle (until none runs).
func newQueueWaitCmd(e *env, verb string) *cobra.Command {
	timeout, quiet, asJSON := "", false, false
	short, long := "Wait until there are no jobs", "Wait until no job is pending or running."
	if verb == "idle" {
		short, long = "Wait until no job runs", "Wait until no job runs, and tell how many are pending. Useful after 'frond queue stop'."
	}
	cmd := &cobra.Command{
		Use:     verb + " [-t DURATION]",
		Short:   short,
		Long:    long + "\n\nExit codes: 0, or 1 when the time was not enough.",
		Example: "  frond queue " + verb + " -t 1h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return waitQueues(cmd.Context(), e, verb, timeout, quiet, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&timeout, "timeout", "t", "", "give up after `DURATION`")
	if verb == "idle" {
		f.BoolVar(&quiet, "quiet", false, "do not tell how many jobs are pending")
	}
	f.BoolVar(&asJSON, "json", false, "print the numbers of jobs as JSON")
	return cmd
}

func waitQueues(ctx context.Context, e *env, verb, timeout string, quiet, asJSON bool) error {
	waiting, stop, err := withTimeout(ctx, timeout)
	if err != nil {
		return err
	}
	defer stop()
	return e.connected(ctx, func(c *client.Client) error {
		var last api.CountsRep
		s, err := client.Open(waiting, c, api.Counts, api.CountsReq{Follow: true})
		if err != nil {
			return err
		}
		defer s.Close()
		for {
			rep, err := s.Next()
			if err != nil {
				break // the end: no job is active; or the time
			}
			last = rep
			if verb == "idle" && rep.Running == 0 {
				break
			}
		}
		if waiting.Err() != nil && ctx.Err() == nil {
			return fmt.Errorf("timeout: %d jobs are pending and %d running", last.Pending, last.Running)
		}
		switch {
		case asJSON:
			return writeJSON(e.stdout, last)
		case verb == "idle" && !quiet:
			fmt.Fprintf(e.stdout, "%d jobs\n", last.Pending)
		}
		return ctx.Err()
	})
}
