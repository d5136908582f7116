package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource/idset"
	"github.com/spf13/cobra"
)

type execOptions struct {
	ranks   string
	exclude string
	dir     string
	label   bool
	noInput bool
	verbose bool
	quiet   bool
	job     string
}

func newExecCmd(e *env) *cobra.Command {
	o := &execOptions{}
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] COMMAND [ARGS…]",
		Short: "Run a command on brokers, outside of the queue",
		Long: `Run a command on all brokers of the instance at once, or on some, outside of the queue: it takes no resources and waits for none. It gets this
command's environment (with the broker's FROND_URI), directory and standard input; its output is printed as it comes. Signals are passed on, and
two interrupts within a second end it. When this command ends, so does what it has started, everywhere.

Exit codes: the largest of the commands' (128 + the signal's number for one that was killed, 127 and 126 for one that could not be started); 68 when a
broker is not online or was lost.`,
		Example: "  frond exec hostname\n  frond exec -r 1-3 -l df -h /tmp",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVarP(&o.ranks, "rank", "r", "all", "`RANKS` of the brokers, or all")
	f.StringVarP(&o.exclude, "exclude", "x", "", "`RANKS` to leave out")
	f.StringVarP(&o.dir, "dir", "d", "", "run in `DIRECTORY` (default: this one)")
	f.BoolVarP(&o.label, "label-io", "l", false, "print the rank in front of each line")
	f.BoolVarP(&o.noInput, "noinput", "n", false, "standard input is empty")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say what starts and ends")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "do not say which commands failed")
	f.StringVarP(&o.job, "jobid", "j", "", "the brokers that run job `ID`; --rank and --exclude then count within them, from 0")
	return cmd
}

// exitNoHost is the exit code when a broker is not there (EX_NOHOST of sysexits.h).
const exitNoHost = 68

func (o *execOptions) run(ctx context.Context, e *env, argv []string) error {
	dir := o.dir
	if dir == "" {
		var err error
		if dir, err = os.Getwd(); err != nil {
			return fmt.Errorf("find the working directory: %w", err)
		}
	}
	return e.connected(ctx, func(c *client.Client) error {
		ranks, err := o.targets(ctx, e, c)
		if err != nil {
			return err
		}
		once, err := e.dial(ctx, c.URI()) // without connecting again: what it has started ends with the connection
		if err != nil {
			return err
		}
		defer once.Close()
		x := newExecution(e, once, o, ranks)
		return x.run(ctx, api.RexecRunReq{Argv: argv, Dir: dir, Env: environBytes(os.Environ()), Input: !o.noInput})
	})
}

// environBytes is an environment as it travels.
func environBytes(env []string) []byte { return []byte(strings.Join(env, "\x00") + "\x00") }

// targets are the ranks to run on.
func (o *execOptions) targets(ctx context.Context, e *env, c *client.Client) ([]int, error) {
	all, err := o.candidates(ctx, e, c)
	if err != nil {
		return nil, err
	}
	chosen := all
	if o.ranks != "all" {
		set, err := parseRanks("--rank", o.ranks)
		if err != nil {
			return nil, err
		}
		if chosen, err = o.pick(all, set); err != nil {
			return nil, err
		}
	}
	if o.exclude != "" {
		set, err := parseRanks("--exclude", o.exclude)
		if err != nil {
			return nil, err
		}
		out, _ := o.pick(all, set) // ranks that are not there are left out anyway
		chosen = slices.DeleteFunc(slices.Clone(chosen), func(r int) bool { return slices.Contains(out, r) })
	}
	if len(chosen) == 0 {
		return nil, errors.New("--rank and --exclude leave no broker")
	}
	return chosen, nil
}

func parseRanks(option, text string) (idset.Set, error) {
	set, err := idset.Parse(text)
	if err != nil {
		return set, fmt.Errorf("%s %q: %w", option, text, err)
	}
	if set.Empty() {
		return set, fmt.Errorf("%s %q: no ranks", option, text)
	}
	return set, nil
}

// pick chooses from all: ranks, or with --jobid places.
func (o *execOptions) pick(all []int, set idset.Set) (chosen []int, err error) {
	found := 0
	for i, r := range all {
		id := r
		if o.job != "" {
			id = i
		}
		if set.Has(id) {
			chosen = append(chosen, r)
			found++
		}
	}
	if found < set.Len() {
		err = fmt.Errorf("--rank %s: there is no such rank: the instance has %s", o.ranks, countText(len(all), "broker"))
		if o.job != "" {
			err = fmt.Errorf("--rank %s: job %s runs on %s", o.ranks, o.job, countText(len(all), "broker"))
		}
	}
	return chosen, err
}

func countText(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// candidates are the ranks of all brokers, or of those of the job.
func (o *execOptions) candidates(ctx context.Context, e *env, c *client.Client) ([]int, error) {
	if o.job != "" {
		return o.jobRanks(ctx, e, c)
	}
	tree, err := call(ctx, c, api.OverlayStatus, wire.Any, api.Empty{})
	if err != nil {
		return nil, err
	}
	var ranks []int
	for _, m := range tree.Members {
		if m.State != "left" {
			ranks = append(ranks, int(m.Rank))
		}
	}
	return ranks, nil
}

func (o *execOptions) jobRanks(ctx context.Context, e *env, c *client.Client) ([]int, error) {
	ids, err := e.parseIDs([]string{o.job})
	if err == nil {
		err = e.checkElements(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	var jobs []api.JobInfo
	err = stream(ctx, c, api.List, wire.Any, api.ListReq{IDs: ids}, func(rep api.ListRep) error {
		jobs = append(jobs, rep.Jobs...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	nodes, err := call(ctx, c, api.ResourceStatus, wire.Any, api.Empty{})
	if err != nil {
		return nil, err
	}
	brokers := map[int]int{}
	for _, n := range nodes.Nodes {
		brokers[n.Node.Index] = int(n.Node.Broker)
	}
	var ranks []int
	for _, j := range jobs {
		set, err := idset.Parse(j.Ranks)
		if err != nil || set.Empty() {
			return nil, fmt.Errorf("job %s does not run", o.job)
		}
		for node := range set.All() {
			if b := brokers[node]; !slices.Contains(ranks, b) {
				ranks = append(ranks, b)
			}
		}
	}
	slices.Sort(ranks)
	return ranks, nil
}
