package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/spf13/cobra"
)

func newCompletionCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes commands, options, job ids and names in a shell",
		Long: `Print a script for a shell. With it the tab key completes commands and options, ids of jobs (active ones where they are
to be cancelled), names of instances, and files.

  bash   source <(frond completion bash)          in ~/.bashrc
  zsh    source <(frond completion zsh)           in ~/.zshrc, after compinit
  fish   frond completion fish | source           in ~/.config/fish/config.fish

Exit codes: 0; 1 for another shell.`,
		Example:   "  source <(frond completion bash)",
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(e.stdout, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(e.stdout)
			case "fish":
				return cmd.Root().GenFishCompletion(e.stdout, true)
			}
			return fmt.Errorf("%q: there are scripts for bash, zsh and fish", args[0])
		},
	}
}

// takesIDs are the commands whose arguments are ids of jobs, and whether these must be active.
var takesIDs = map[string]bool{
	"cancel": true, "kill": true, "wait": true, "update": true, "job cancel": true, "job kill": true, "job wait": true, "job raise": true, "job urgency": true,
	"job timeleft": true, "explain": true,
	"jobs": false, "logs": false, "retry": false, "report": false, "watch": false, "job attach": false, "job info": false, "job eventlog": false,
	"job wait-event": false, "job status": false, "job taskmap": false, "job id": false,
}

// complete says what can stand where in a command line.
func (e *env) complete(root *cobra.Command) {
	if len(e.args) == 0 || !strings.HasPrefix(e.args[0], cobra.ShellCompRequestCmd) {
		return // nobody asks
	}
	for path, active := range takesIDs {
		cmd, rest, err := root.Find(strings.Fields(path))
		if err == nil && len(rest) == 0 && cmd != root {
			cmd.ValidArgsFunction = func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
				return e.completeIDs(typed, active), cobra.ShellCompDirectiveNoFileComp
			}
		}
	}
	instances := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return e.completeInstances(), cobra.ShellCompDirectiveNoFileComp
	}
	if cmd, _, err := root.Find([]string{"shutdown"}); err == nil {
		cmd.ValidArgsFunction = instances
	}
	queues := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return e.completeQueues(), cobra.ShellCompDirectiveNoFileComp
	}
	for _, cmd := range root.Commands() {
		completeQueueIn(cmd, queues)
	}
	_ = root.RegisterFlagCompletionFunc("instance", instances) // the flag is there
	_ = root.RegisterFlagCompletionFunc("color", cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
}

// completeQueueIn has queues named after -q of a command and its subcommands, and as arguments of those of frond queue.
func completeQueueIn(cmd *cobra.Command, queues cobra.CompletionFunc) {
	if f := cmd.Flags().Lookup("queue"); f != nil && cmd.Name() != "start" {
		_ = cmd.RegisterFlagCompletionFunc("queue", queues) // it is there
	}
	if p := cmd.Parent(); p != nil && p.Name() == "queue" {
		cmd.ValidArgsFunction = queues
	}
	for _, sub := range cmd.Commands() {
		completeQueueIn(sub, queues)
	}
}

// completionLimit is how long a person with a finger on the tab key is made to wait.
const completionLimit = 2 * time.Second

// quickly calls ask with a connection to the instance, if there is one.
func (e *env) quickly(ask func(ctx context.Context, c *client.Client) []string) []string {
	ctx, cancel := context.WithTimeout(context.Background(), completionLimit)
	defer cancel()
	uri, err := e.uri()
	if err != nil {
		return nil
	}
	c, err := e.dial(ctx, uri)
	if err != nil {
		return nil
	}
	defer c.Close()
	return ask(ctx, c)
}

// completeIDs lists ids of jobs in the spelling that was begun.
func (e *env) completeIDs(typed string, active bool) []string {
	return e.quickly(func(ctx context.Context, c *client.Client) []string { return e.idsOf(ctx, c, typed, active) })
}

func (e *env) idsOf(ctx context.Context, c *client.Client, typed string, active bool) []string {
	req := api.ListReq{Max: 200, Collapse: true}
	if active {
		req.States = int(jobspec.StatesActive)
	}
	s, err := client.Open(ctx, c, api.List, req)
	if err != nil {
		return nil
	}
	defer s.Close()
	var list []string
	for len(list) < req.Max {
		page, err := s.Next()
		if err != nil {
			break
		}
		for _, j := range page.Jobs {
			id := e.idText(j.ID)
			if strings.HasPrefix(typed, "f") {
				id = j.ID.F58Plain()
			}
			list = append(list, id+"\t"+escaped(j.Name))
		}
	}
	return list
}

// completeQueues lists the names of the queues.
func (e *env) completeQueues() []string {
	return e.quickly(func(ctx context.Context, c *client.Client) (list []string) {
		rep, err := client.Call(ctx, c, api.Queues, api.Empty{})
		if err != nil {
			return nil
		}
		for i := range rep.Queues {
			if name := rep.Queues[i].Name; name != "" {
				list = append(list, name)
			}
		}
		return list
	})
}

// completeInstances lists the names of instances that may be alive.
func (e *env) completeInstances() []string {
	reg, err := boot.OpenRegistry(e.getenv)
	if err != nil {
		return nil
	}
	all, _ := reg.List() // none is an answer too
	here := boot.Self()
	var list []string
	for _, entry := range all {
		if !surelyDead(entry, here) {
			list = append(list, entry.Name+"\ton "+entry.Host)
		}
	}
	return list
}
