package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"syscall"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

// newEventCmd is `frond event`.
func newEventCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "event COMMAND",
		Short:   "Publish events to the instance, and read them",
		Example: "  frond event sub run\n  frond event pub run.done '{\"step\":7}'",
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEventPubCmd(e), newEventSubCmd(e))
	return cmd
}

type eventPubOptions struct{ raw, loopback, synchronous, private bool }

func newEventPubCmd(e *env) *cobra.Command {
	o := &eventPubOptions{}
	cmd := &cobra.Command{
		Use:   "pub [OPTIONS] TOPIC [PAYLOAD]",
		Short: "Publish an event",
		Long: `Publish an event to all who have subscribed, on all brokers. The payload is JSON; - is standard input. When the command returns the
event has its number, and everybody gets it in that order.

Exit codes: 0, or 1 when it was not published.`,
		Example: "  frond event pub run.done '{\"step\":7}'",
		Args:    cobra.RangeArgs(1, 2),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.raw, "raw", "r", false, "the payload is any bytes, not JSON")
	f.BoolVarP(&o.loopback, "loopback", "l", false, "return when the event has come back to this broker")
	f.BoolVarP(&o.synchronous, "synchronous", "s", false, "return when the event has its number (this is always so)")
	f.BoolVarP(&o.private, "private", "p", false, "for the owner of the instance only (this is always so)")
	return cmd
}

func (o *eventPubOptions) run(ctx context.Context, e *env, args []string) error {
	ev := api.EventMsg{Topic: args[0]}
	if err := checkTopic(ev.Topic); err != nil {
		return err
	}
	if len(args) == 2 {
		var err error
		if ev.Body, err = o.payload(e, args[1]); err != nil {
			return err
		}
	}
	return e.connected(ctx, func(c *client.Client) error {
		if !o.loopback {
			_, err := call(ctx, c, api.PublishEvent, wire.Any, ev)
			return err
		}
		s, err := subscribe(ctx, c, ev.Topic)
		if err != nil {
			return err
		}
		defer s.Close()
		mine, err := call(ctx, c, api.PublishEvent, wire.Any, ev)
		for err == nil && (ev.Epoch < mine.Epoch || ev.Seq < mine.Seq) {
			ev, err = s.Next()
		}
		return err
	})
}

// checkTopic refuses topics that would garble a listing.
func checkTopic(topic string) error {
	switch {
	case topic == "":
		return errors.New("an event needs a topic")
	case strings.ContainsFunc(topic, func(r rune) bool { return r <= ' ' || r == 0x7f || r >= 0x80 && r <= 0xa0 }):
		return fmt.Errorf("topic %q has blanks or control characters", topic)
	}
	return nil
}

func (o *eventPubOptions) payload(e *env, arg string) ([]byte, error) {
	data := []byte(arg)
	if arg == "-" {
		var err error
		if data, err = io.ReadAll(io.LimitReader(e.stdin, wire.MaxFrame)); err != nil {
			return nil, fmt.Errorf("read the payload: %w", err)
		}
	}
	if o.raw {
		return data, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		return nil, fmt.Errorf("payload %.60q is no JSON (--raw takes any bytes): %w", data, err)
	}
	return compact.Bytes(), nil
}

// subscribe opens a stream of events, which is in effect when it returns.
func subscribe(ctx context.Context, c *client.Client, prefix string) (*client.Stream[api.EventMsg], error) {
	s, err := client.Open(ctx, c, api.Subscribe, api.SubscribeReq{Prefix: prefix})
	if err != nil {
		return nil, err
	}
	if _, err := call(ctx, c, api.Ping, wire.Any, api.PingReq{}); err != nil { // comes after it
		s.Close()
		return nil, err
	}
	return s, nil
}

type eventSubOptions struct {
	raw     bool
	json    bool
	count   int
	timeout string
}

func newEventSubCmd(e *env) *cobra.Command {
	o := &eventSubOptions{}
	cmd := &cobra.Command{
		Use:   "sub [OPTIONS] [TOPIC…]",
		Short: "Print events as they come",
		Long: `Print events as they come, one a line: its topic, a tab, its payload. A TOPIC stands for all that begin with it; with *, ? or [ in it,
for all that match it as a whole. Without one all events are printed.

A reader that falls too far behind, or whose broker was away, misses events; that is said on standard error.

Exit codes: 0 after --count events, or 1 when the time is over or the instance has ended.`,
		Example: "  frond event sub -c 1 run.done\n  frond event sub 'run.*.done'",
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.raw, "raw", "r", false, "print payloads byte for byte")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line, with epoch and number")
	f.IntVarP(&o.count, "count", "c", 0, "stop after `N` events")
	f.StringVarP(&o.timeout, "timeout", "t", "", "give up after `DURATION`")
	return cmd
}

func (o *eventSubOptions) run(ctx context.Context, e *env, topics []string) error {
	if o.count < 0 {
		return errors.New("--count must not be negative")
	}
	for _, t := range topics {
		if _, err := path.Match(t, ""); err != nil {
			return fmt.Errorf("topic %q: %w", t, err)
		}
	}
	ctx, cancel, err := withTimeout(ctx, o.timeout)
	if err != nil {
		return err
	}
	defer cancel()
	n := 0
	err = e.connected(ctx, func(c *client.Client) error {
		for {
			err := o.follow(ctx, e, c, topics, &n)
			if !errors.Is(err, &wire.Error{Code: wire.Resync}) {
				return err
			}
			fmt.Fprintln(e.stderr, "frond event sub: events were missed")
		}
	})
	switch {
	case errors.Is(err, errEnough) || errors.Is(err, syscall.EPIPE):
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("timeout: %d events came within %s", n, o.timeout)
	}
	return err
}

// follow prints the events of one subscription.
func (o *eventSubOptions) follow(ctx context.Context, e *env, c *client.Client, topics []string, n *int) error {
	s, err := subscribe(ctx, c, commonPrefix(topics))
	if err != nil {
		return err
	}
	defer s.Close()
	for again := 0; ; {
		ev, err := s.Next()
		if err != nil {
			return err
		}
		if r := s.Restarts(); r > again {
			again = r
			fmt.Fprintln(e.stderr, "frond event sub: the connection was lost for a while: events may have been missed")
		}
		if !wants(topics, ev.Topic) {
			continue
		}
		if err := o.print(e, ev); err != nil {
			return err
		}
		if *n++; *n == o.count {
			return errEnough
		}
	}
}

// isGlob tells whether a topic is a pattern.
func isGlob(topic string) bool { return strings.ContainsAny(topic, `*?[\`) }

// wants tells whether one of the topics asked for, or no topic, covers topic.
func wants(topics []string, topic string) bool {
	for _, t := range topics {
		if !isGlob(t) && strings.HasPrefix(topic, t) {
			return true
		}
		if ok, err := path.Match(t, topic); ok && err == nil {
			return true
		}
	}
	return len(topics) == 0
}

// commonPrefix is what all topics asked for begin with.
func commonPrefix(topics []string) string {
	common := ""
	for i, t := range topics {
		if at := strings.IndexAny(t, `*?[\`); at >= 0 {
			t = t[:at]
		}
		if i == 0 {
			common = t
		}
		for !strings.HasPrefix(t, common) {
			common = common[:len(common)-1]
		}
	}
	return common
}

// eventOut is an event for programs.
type eventOut struct {
	Topic   string          `json:"topic"`
	Epoch   uint64          `json:"epoch"`
	Seq     uint64          `json:"seq"`
	Payload json.RawMessage `json:"payload,omitempty"` // where it is JSON
	Bytes   []byte          `json:"bytes,omitempty"`   // where it is not
}

func (o *eventSubOptions) print(e *env, ev api.EventMsg) error {
	if o.json {
		out := eventOut{Topic: ev.Topic, Epoch: ev.Epoch, Seq: ev.Seq}
		if json.Valid(ev.Body) {
			out.Payload = ev.Body
		} else {
			out.Bytes = ev.Body
		}
		return writeJSON(e.stdout, out)
	}
	payload := string(ev.Body)
	if !o.raw {
		payload = printable(ev.Body)
	}
	_, err := fmt.Fprintf(e.stdout, "%s\t%s\n", printable([]byte(ev.Topic)), payload)
	return err
}
