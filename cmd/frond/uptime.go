package main

import (
	"context"
	"fmt"
	"os/user"
	"strconv"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

func newUptimeCmd(e *env) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "uptime [--json]",
		Short: "Show in one line how long the instance has been running, and how large it is",
		Long: `Show the time, how long the instance has been running, its owner, its depth among enclosing instances and its size, and how many
nodes are drained and brokers offline; and how long jobs may still run, where the instance's end is known.

Exit codes: 0, or 1 when there is no instance.`,
		Example: "  frond uptime",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.connected(cmd.Context(), func(c *client.Client) error { return showUptime(cmd.Context(), e, c, asJSON) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// showUptime prints a line like that of `flux uptime`: time, age, owner, depth (the instance's level), size, and what is amiss.
func showUptime(ctx context.Context, e *env, c *client.Client, asJSON bool) error {
	attrs, err := call(ctx, c, api.AttrList, wire.Any, api.Empty{})
	if err != nil {
		return err
	}
	tree, err := call(ctx, c, api.OverlayStatus, wire.Any, api.Empty{})
	if err != nil {
		return err
	}
	nodes, err := call(ctx, c, api.ResourceStatus, wire.Any, api.Empty{})
	if err != nil {
		return err
	}
	now := time.Now()
	start, _ := strconv.ParseFloat(attrs.Attrs["broker.starttime"], 64)
	drained, offline := amiss(tree, nodes)
	if asJSON {
		level, _ := strconv.Atoi(attrs.Attrs["instance-level"])
		size, _ := strconv.Atoi(attrs.Attrs["size"])
		return writeJSON(e.stdout, uptime{Start: start, Owner: owner(attrs.Attrs["security.owner"]), Level: level, Size: size,
			Drained: drained, Offline: offline, Expiration: nodes.Expiration})
	}
	line := fmt.Sprintf(" %s run %s,  owner %s,  depth %s,  size %s", now.Format("15:04:05"),
		ageText(float64(now.UnixMicro())/1e6-start), owner(attrs.Attrs["security.owner"]), attrs.Attrs["instance-level"], attrs.Attrs["size"])
	line += leftText(",  ", nodes.Expiration)
	if drained > 0 {
		line += fmt.Sprintf(",  %d drained", drained)
	}
	if offline > 0 {
		line += fmt.Sprintf(",  %d offline", offline)
	}
	fmt.Fprintln(e.stdout, line)
	return nil
}

// uptime is what --json prints.
type uptime struct {
	Start      float64 `json:"start"` // epoch seconds
	Owner      string  `json:"owner"`
	Level      int     `json:"instance_level"`
	Size       int     `json:"size"`
	Drained    int     `json:"drained"`
	Offline    int     `json:"offline"`
	Expiration float64 `json:"expiration"` // epoch seconds; 0 = unknown
}

// leftText says how long an instance that ends at expiration may still run jobs, behind sep; empty where that is unknown.
func leftText(sep string, expiration float64) string {
	left := leftFor(expiration, float64(time.Now().UnixMicro())/1e6)
	if left == "" {
		return ""
	}
	return sep + left + " left"
}

// amiss counts drained nodes and brokers that are not online.
func amiss(tree api.OverlayStatusRep, nodes api.ResourceStatusRep) (drained, offline int) {
	for _, n := range nodes.Nodes {
		if n.Drained {
			drained++
		}
	}
	for _, m := range tree.Members {
		if m.State != "online" && m.State != "left" {
			offline++
		}
	}
	return drained, offline
}

// owner is the name of a user id, or the id where it has none.
func owner(uid string) string {
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

// ageText writes seconds as a duration with one unit: 4.2s, 14m, 2.1h, 3.5d.
func ageText(secs float64) string {
	switch {
	case secs < 60:
		return fmt.Sprintf("%.1fs", max(secs, 0))
	case secs < 3600:
		return fmt.Sprintf("%.0fm", secs/60)
	case secs < 86400:
		return fmt.Sprintf("%.1fh", secs/3600)
	}
	return fmt.Sprintf("%.1fd", secs/86400)
}
