package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

func newListCmd(e *env) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List your instances, and clear what dead ones left",
		Long: `List your instances with the state of each:

  online    all its brokers are there
  degraded  some are not
  silent    its leader does not answer
  remote    it is on another host, nothing is known from here (--instance ssh://HOST/NAME reaches it)

JOBS are those that wait and those that run. IN is the allocation of another scheduler in which the instance was started, LEFT how long
jobs may still run there, where that is known.
What instances left that are surely dead is cleared: their entries and run directories. State directories stay.

Exit codes: 0, or 1 when the list cannot be read.`,
		Example: `  frond list
  frond list --json | jq -r '.[].name'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return listInstances(cmd.Context(), e, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

// listed is one instance as `frond list` shows it.
type listed struct {
	Name     string  `json:"name"`
	Host     string  `json:"host"`
	PID      int     `json:"pid"`
	Start    float64 `json:"start"`
	Nodes    int     `json:"nodes"`  // brokers expected
	Online   int     `json:"online"` // brokers online; 0 if unknown
	State    string  `json:"state"`
	Pending  int     `json:"pending"` // jobs; 0 if unknown
	Running  int     `json:"running"`
	URI      string  `json:"uri"`
	TCP      string  `json:"tcp,omitempty"`
	Outer    string  `json:"allocation,omitempty"`
	StateDir string  `json:"statedir,omitempty"`
	// Expiration is when it ends, epoch seconds; 0 = unknown.
	Expiration float64 `json:"expiration,omitempty"`
}

func listInstances(ctx context.Context, e *env, asJSON bool) error {
	reg, err := boot.OpenRegistry(e.getenv)
	if err != nil {
		return err
	}
	entries, err := liveEntries(e, reg)
	if err != nil {
		return err
	}
	rows := []listed{}
	for _, entry := range entries {
		rows = append(rows, look(ctx, e, entry))
	}
	if asJSON {
		return writeJSON(e.stdout, rows)
	}
	return writeInstances(e.stdout, rows)
}

func writeInstances(w io.Writer, rows []listed) error {
	now := float64(time.Now().UnixMicro()) / 1e6
	var cells [][]any
	head := "NAME HOST AGE NODES JOBS STATE IN"
	ends := slices.ContainsFunc(rows, func(r listed) bool { return r.Expiration > 0 })
	if ends {
		head += " LEFT"
	}
	for _, r := range rows {
		nodes := fmt.Sprint(r.Nodes)
		if r.State == "degraded" {
			nodes = fmt.Sprintf("%d/%d", r.Online, r.Nodes)
		}
		jobs := "-"
		if r.State == "online" || r.State == "degraded" {
			jobs = fmt.Sprintf("%d+%d", r.Pending, r.Running)
		}
		cells = append(cells, []any{r.Name, r.Host, ageText(now - r.Start), nodes, jobs, r.State, cmp.Or(r.Outer, "-")})
		if last := len(cells) - 1; ends {
			cells[last] = append(cells[last], cmp.Or(leftFor(r.Expiration, now), "-"))
		}
	}
	return columns(w, head, cells)
}

// leftFor is the time from now until t as ageText has it; empty if t is unknown.
func leftFor(t, now float64) string {
	if t == 0 {
		return ""
	}
	return ageText(t - now)
}

// liveEntries clears the entries and run directories of dead instances, and returns the rest.
func liveEntries(e *env, reg boot.Registry) ([]boot.Entry, error) {
	all, err := reg.List()
	if err != nil {
		return nil, err
	}
	here := boot.Self()
	var live []boot.Entry
	for _, entry := range all {
		if surelyDead(entry, here) {
			boot.Clear(entry.RunDir)
			reg.Remove(entry)
			continue
		}
		live = append(live, entry)
	}
	boot.Sweep(boot.Base(e.getenv, "x", 1))
	boot.Sweep(boot.Base(func(string) string { return "" }, "x", 1))
	return live, nil
}

// look asks an instance how it is.
func look(ctx context.Context, e *env, entry boot.Entry) listed {
	l := listed{Name: entry.Name, Host: entry.Host, PID: entry.PID, Start: entry.Start, Nodes: entry.Size, URI: entry.URI,
		TCP: entry.TCP, Outer: entry.Outer, StateDir: entry.StateDir, Expiration: entry.Expiration, State: "remote"}
	here := boot.Self()
	uri, err := reach(entry, here)
	if err != nil {
		return l
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := e.dial(ctx, uri)
	if err != nil {
		if entry.Live(here) != boot.Unknown {
			l.State = "silent"
		}
		return l
	}
	defer c.Close()
	rep, err := call(ctx, c, api.OverlayStatus, wire.Any, api.Empty{})
	if err != nil {
		l.State = "silent"
		return l
	}
	l.Nodes, l.Online, l.State = max(rep.Size, len(rep.Members)), rep.Online, "online"
	if l.Online < l.Nodes {
		l.State = "degraded"
	}
	stream(ctx, c, api.Counts, wire.Any, api.CountsReq{}, func(n api.CountsRep) error { // 0 if it does not say
		l.Pending, l.Running = n.Pending, n.Running
		return nil
	})
	return l
}

// outerAllocation names the allocation, or the job of an instance, in which this process runs; empty = none.
func outerAllocation(getenv func(string) string) string {
	for _, v := range []struct{ name, variable string }{
		{"frond", "FROND_JOB_ID"}, {"flux", "FLUX_JOB_ID"}, {"slurm", "SLURM_JOB_ID"}, {"lsf", "LSB_JOBID"}, {"pbs", "PBS_JOBID"},
	} {
		if id := getenv(v.variable); id != "" {
			return v.name + " " + id
		}
	}
	if id := getenv("JOB_ID"); id != "" && getenv("SGE_ROOT") != "" {
		return "sge " + id
	}
	return ""
}
