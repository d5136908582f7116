package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/spf13/cobra"
)

func newKvsEventlogCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "eventlog COMMAND",
		Short:   "Eventlogs in the key-value store: append, get, wait-event",
		Long:    `An eventlog is a value of JSON lines (RFC 18): each has a timestamp, a name, and may have a context.`,
		Example: "  frond kvs eventlog append run.log started '{\"step\":1}'\n  frond kvs eventlog get run.log",
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKvsEventlogAppendCmd(e), newKvsEventlogGetCmd(e), newKvsEventlogWaitCmd(e))
	return cmd
}

func newKvsEventlogAppendCmd(e *env) *cobra.Command {
	ns, at := "", 0.0
	cmd := &cobra.Command{
		Use:     "append [OPTIONS] KEY NAME [CONTEXT]",
		Short:   "Append an event",
		Long:    "Append an event. CONTEXT is a JSON object." + kvsExit,
		Example: "  frond kvs eventlog append run.log started '{\"step\":1}'",
		Args:    cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			ev := api.Event{Timestamp: at, Name: args[1]}
			if at <= 0 {
				ev.Timestamp = float64(time.Now().UnixMicro()) / 1e6
			}
			if ev.Name == "" {
				return errors.New("an event needs a name")
			}
			if len(args) == 3 {
				var object map[string]any
				if err := json.Unmarshal([]byte(args[2]), &object); err != nil || object == nil {
					return fmt.Errorf("context %q is no JSON object", args[2])
				}
				var compact bytes.Buffer
				_ = json.Compact(&compact, []byte(args[2])) // it is JSON
				ev.Context = compact.String()
			}
			op := api.KVSOp{Kind: api.KVSAppend, Key: args[0], Data: append(eventJSON(&ev), '\n')}
			return e.kvsCommit(cmd.Context(), ns, []api.KVSOp{op}, false)
		},
	}
	addNamespace(cmd.Flags(), &ns)
	cmd.Flags().Float64VarP(&at, "timestamp", "t", 0, "`SECONDS` since 1970 instead of now")
	return cmd
}

// kvsEvents reads an eventlog as it grows.
type kvsEvents struct {
	ns     string
	wait   bool // for the key
	follow bool
}

// each calls f with every event until it returns errEnough.
func (k *kvsEvents) each(ctx context.Context, e *env, key string, f func(*api.Event) error) error {
	var part []byte
	n := 0
	take := func(ent api.KVSEntry) error {
		lines := bytes.SplitAfter(append(part, ent.Data...), []byte("\n"))
		part = bytes.Clone(lines[len(lines)-1])
		for _, line := range lines[:len(lines)-1] {
			n++
			ev, err := parseEvent(line)
			if err != nil {
				return fmt.Errorf("%s: line %d is no event: %w", key, n, err)
			}
			if err := f(ev); err != nil {
				return err
			}
		}
		if !k.follow {
			return errEnough
		}
		return nil
	}
	return e.connected(ctx, func(c *client.Client) error {
		ns := e.namespace(k.ns)
		if k.follow || k.wait {
			return kvsFollow(ctx, c, api.KVSWatchReq{Namespace: ns, Key: key, WaitCreate: k.wait, Append: true}, take)
		}
		ent, err := kvsGet(ctx, c, ns, key)
		if err != nil {
			return err
		}
		return take(ent)
	})
}

// parseEvent reads one line of an eventlog.
func parseEvent(line []byte) (*api.Event, error) {
	var j struct {
		Timestamp float64         `json:"timestamp"`
		Name      string          `json:"name"`
		Context   json.RawMessage `json:"context"`
	}
	if err := json.Unmarshal(line, &j); err != nil {
		return nil, err
	}
	if j.Timestamp <= 0 || j.Name == "" {
		return nil, errors.New("it has no timestamp or no name")
	}
	return &api.Event{Timestamp: j.Timestamp, Name: j.Name, Context: string(j.Context)}, nil
}

func newKvsEventlogGetCmd(e *env) *cobra.Command {
	k, count, unformatted := &kvsEvents{}, 0, false
	format, times, human := "", "", false
	cmd := &cobra.Command{
		Use:   "get [OPTIONS] KEY",
		Short: "Print an eventlog",
		Long: `Print an eventlog, one event a line.

Exit codes: 0, or 1 when the key is not there or no eventlog.`,
		Example: "  frond kvs eventlog get -w -c 3 run.log",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if unformatted {
				format = "json"
			}
			style, err := parseEventStyle(format, times, human)
			if err != nil {
				return err
			}
			p, n := newEventPrinter(e.stdout, style), 0
			err = k.each(cmd.Context(), e, args[0], func(ev *api.Event) error {
				p.print(ev)
				if n++; n == count {
					return errEnough
				}
				return nil
			})
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		},
	}
	f := cmd.Flags()
	addNamespace(f, &k.ns)
	addEventFlags(f, &format, &times, &human)
	f.BoolVarP(&unformatted, "unformatted", "u", false, "print the events as they are stored; same as --format=json")
	f.BoolVarP(&k.follow, "watch", "w", false, "go on with what is appended")
	f.BoolVarP(&k.wait, "waitcreate", "W", false, "wait until the key is there")
	f.IntVarP(&count, "count", "c", 0, "stop after `N` events")
	f.BoolP("stream", "S", false, "read a large eventlog in parts (this is done as needed)")
	return cmd
}

func newKvsEventlogWaitCmd(e *env) *cobra.Command {
	o, k := &jobWaitEventOptions{count: 1}, &kvsEvents{follow: true}
	cmd := &cobra.Command{
		Use:   "wait-event [OPTIONS] KEY EVENT",
		Short: "Wait for an event",
		Long: `Wait until an event is in an eventlog, and print it.

Exit codes: 0, or 1 when the key is not there, no eventlog, or the time is over.`,
		Example: "  frond kvs eventlog wait-event -W -t 10s run.log done",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := o.watcher(e, args[1])
			if err != nil {
				return err
			}
			ctx, cancel, err := withTimeout(cmd.Context(), o.timeout)
			if err != nil {
				return err
			}
			defer cancel()
			w.found = func() {}
			err = k.each(ctx, e, args[0], func(ev *api.Event) error {
				if w.event(ev); w.left <= 0 {
					return errEnough
				}
				return nil
			})
			switch {
			case errors.Is(err, errEnough):
				return nil
			case errors.Is(ctx.Err(), context.DeadlineExceeded):
				return fmt.Errorf("timeout: event %q did not come within %s", strings.TrimSpace(args[1]), o.timeout)
			}
			return err
		},
	}
	f := cmd.Flags()
	addNamespace(f, &k.ns)
	addEventFlags(f, &o.format, &o.times, &o.human)
	f.BoolVarP(&k.wait, "waitcreate", "W", false, "wait until the key is there")
	f.StringVarP(&o.timeout, "timeout", "t", "", "give up after `DURATION`")
	f.StringArrayVarP(&o.match, "match-context", "m", nil, "only an event whose context has `KEY=VALUE`")
	f.IntVarP(&o.count, "count", "c", 1, "wait until the event has come `N` times")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "do not print the event")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print all events until then")
	return cmd
}
