package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
	"github.com/spf13/cobra"
)

type resourceEventlogOptions struct {
	format, timeFormat string
	human, follow      bool
	timeout, wait      string
	match, include     string
}

func newResourceEventlogCmd(e *env) *cobra.Command {
	o := &resourceEventlogOptions{}
	cmd := &cobra.Command{
		Use:   "eventlog [OPTIONS]",
		Short: "Print what happened to nodes: online, offline, drain, undrain",
		Long: `Print the events of nodes since the leader was started: online, offline, drain and undrain.
-F goes on with what happens from now; -w ends when an event of that name has come.

Exit codes: 0, or 1 when the instance does not answer or --timeout has passed.`,
		Example: `  frond resource eventlog -H
  frond resource eventlog -w drain -t 10m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), e) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.format, "format", "f", "", "text (default) or json")
	f.StringVarP(&o.timeFormat, "time-format", "T", "", "raw (default), iso, offset or human")
	f.BoolVarP(&o.human, "human", "H", false, "times for people: the same as -T human")
	f.BoolVarP(&o.follow, "follow", "F", false, "go on with what happens")
	f.StringVarP(&o.timeout, "timeout", "t", "", "give up after this `TIME`")
	f.StringVarP(&o.wait, "wait", "w", "", "wait for an event of this `NAME`, print and end")
	f.StringVarP(&o.match, "match-context", "m", "", "with -w: only if its context has `KEY=VAL`")
	f.StringVarP(&o.include, "include", "i", "", "only events of these nodes: ranks or names (`TARGETS`)")
	f.StringVarP(&e.color, "color", "L", "auto", "colour the output: auto, always or never")
	return cmd
}

func (o *resourceEventlogOptions) run(ctx context.Context, e *env) error {
	style, err := parseEventStyle(o.format, o.timeFormat, o.human)
	if err != nil {
		return err
	}
	if o.match != "" && (o.wait == "" || !strings.Contains(o.match, "=")) {
		return errors.New("--match-context needs KEY=VAL, and --wait")
	}
	if o.timeout != "" {
		secs, err := jobspec.ParseFSD(o.timeout)
		if err != nil {
			return fmt.Errorf("--timeout: %w", err)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(min(secs, 1e9)*float64(time.Second)))
		defer cancel()
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := client.Open(ctx, c, api.ResourceEvents, api.ResourceEventsReq{Follow: o.follow || o.wait != ""})
	if err != nil {
		return err
	}
	defer s.Close()
	p := newEventPrinter(e.stdout, style)
	for {
		rep, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if ctx.Err() != nil {
				return errors.New("timed out")
			}
			return err
		}
		if o.printAll(p, rep.Events) {
			return nil
		}
	}
}

// printAll prints events; true when the one that is waited for is among them.
func (o *resourceEventlogOptions) printAll(p *eventPrinter, events []api.Event) bool {
	for i := range events {
		ev := &events[i]
		switch {
		case o.include != "" && !concerns(ev, o.include):
			p.note(ev)
		case o.wait == "":
			p.print(ev)
		case ev.Name == o.wait && o.matches(ev):
			p.print(ev)
			return true
		default:
			p.note(ev)
		}
	}
	return false
}

func (o *resourceEventlogOptions) matches(ev *api.Event) bool {
	key, value, _ := strings.Cut(o.match, "=")
	return o.match == "" || contextHas(ev.Context, key, value)
}

// concerns tells whether an event is of one of the targets.
func concerns(ev *api.Event, targets string) bool {
	var ctx struct{ IDSet, Nodelist string }
	if json.Unmarshal([]byte(ev.Context), &ctx) != nil {
		return false
	}
	wanted, err := nodeFilter(targets)
	if err != nil {
		return false
	}
	ranks, err1 := idset.Parse(ctx.IDSet)
	names, err2 := hostlist.Parse(ctx.Nodelist)
	if err1 != nil || err2 != nil {
		return false
	}
	i := 0
	for rank := range ranks.All() {
		name := ""
		if i < len(names) {
			name = names[i]
		}
		if i++; wanted(rank, name) {
			return true
		}
	}
	return false
}

// nodeFilter reads TARGETS of -i: ranks (an idset) or names (a hostlist).
func nodeFilter(targets string) (func(rank int, name string) bool, error) {
	if targets == "" {
		return func(int, string) bool { return true }, nil
	}
	if strings.Trim(targets, "0123456789,-[]") == "" {
		set, err := idset.Parse(targets)
		if err != nil {
			return nil, fmt.Errorf("--include: %w", err)
		}
		return func(rank int, _ string) bool { return set.Has(rank) }, nil
	}
	names, err := hostlist.Parse(targets)
	if err != nil {
		return nil, fmt.Errorf("--include: %w", err)
	}
	in := make(map[string]bool, len(names))
	for _, n := range names {
		in[n] = true
	}
	return func(_ int, name string) bool { return in[name] }, nil
}
