package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
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
  remote    it is on another host, nothing is known from here

What instances left that are surely dead is cleared: their entries and run directories. State directories stay.`,
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
	URI      string  `json:"uri"`
	StateDir string  `json:"statedir,omitempty"`
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
		rows = append(rows, look(ctx, entry))
	}
	if asJSON {
		return writeJSON(e.stdout, rows)
	}
	return writeInstances(e.stdout, rows)
}

func writeInstances(w io.Writer, rows []listed) error {
	now := float64(time.Now().UnixMicro()) / 1e6
	var cells [][]any
	for _, r := range rows {
		nodes := fmt.Sprint(r.Nodes)
		if r.State == "degraded" {
			nodes = fmt.Sprintf("%d/%d", r.Online, r.Nodes)
		}
		cells = append(cells, []any{r.Name, r.Host, ageText(now - r.Start), nodes, r.State})
	}
	return columns(w, "NAME HOST AGE NODES STATE", cells)
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
		if entry.Live(here) == boot.Dead && !(entry.BootID == here.BootID && boot.Held(entry.RunDir)) {
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
func look(ctx context.Context, entry boot.Entry) listed {
	l := listed{Name: entry.Name, Host: entry.Host, PID: entry.PID, Start: entry.Start, Nodes: entry.Size, URI: entry.URI,
		StateDir: entry.StateDir, State: "remote"}
	if entry.Live(boot.Self()) == boot.Unknown {
		return l
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	l.State = "silent"
	c, err := client.Dial(ctx, entry.URI, client.WithVersion(version))
	if err != nil {
		return l
	}
	defer c.Close()
	rep, err := call(ctx, c, api.OverlayStatus, wire.Any, api.Empty{})
	if err != nil {
		return l
	}
	l.Nodes, l.Online, l.State = max(rep.Size, len(rep.Members)), rep.Online, "online"
	if l.Online < l.Nodes {
		l.State = "degraded"
	}
	return l
}
