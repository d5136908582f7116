package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/wire"
)

// What the supervisor asks of the leader. All of it runs on goroutines of its own and ends with its context.

// dialLeader connects to the leader as soon as it takes clients, until ctx ends. A leader that cannot come up exits, which is seen
// elsewhere, so any error is a reason to try again.
func dialLeader(ctx context.Context, info *boot.Info) (*client.Client, error) {
	for {
		c, err := client.Dial(ctx, info.URI(0), client.WithVersion(version), client.WithReconnect(time.Minute))
		if err == nil {
			return c, nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w (%w)", err, ctx.Err())
		}
	}
}

// waitOnline waits until so many brokers are online and their resources known; up is called when the leader is, progress gets the numbers.
func waitOnline(ctx context.Context, info *boot.Info, count int, up func(), progress func(online int)) error {
	c, err := dialLeader(ctx, info)
	if err != nil {
		return err
	}
	defer c.Close()
	up()
	return stream(ctx, c, api.WaitOnline, wire.Any, api.WaitOnlineReq{Count: count}, func(n api.OnlineCount) error {
		progress(n.Online)
		return nil
	})
}

// watchActive sends evProgress until no job is active.
func watchActive(ctx context.Context, info *boot.Info, events chan<- any) error {
	c, err := dialLeader(ctx, info)
	if err != nil {
		return err
	}
	defer c.Close()
	return stream(ctx, c, api.Counts, wire.Any, api.CountsReq{Follow: true}, func(n api.CountsRep) error {
		if active := n.Pending + n.Running; active > 0 {
			events <- evProgress{active}
		}
		return nil
	})
}

// countActive is the number of jobs that have not ended; 0 if the leader does not say.
func countActive(ctx context.Context, info *boot.Info) (active int) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, info.URI(0), client.WithVersion(version))
	if err != nil {
		return 0
	}
	defer c.Close()
	stream(ctx, c, api.Counts, wire.Any, api.CountsReq{}, func(n api.CountsRep) error {
		active = n.Pending + n.Running
		return nil
	})
	return active
}

// shutdownInstance asks the leader to end the instance.
func shutdownInstance(ctx context.Context, info *boot.Info, req api.ShutdownReq) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, info.URI(0), client.WithVersion(version))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = call(ctx, c, api.Shutdown, wire.Any, req)
	return err
}

// tellDead tells the leader that a broker's process is dead; a leader that is just being restarted is told when it is back.
func tellDead(ctx context.Context, info *boot.Info, rank, pid int) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := dialLeader(ctx, info)
	if err != nil {
		return
	}
	defer c.Close()
	call(ctx, c, api.BrokerDead, wire.Any, api.BrokerDeadReq{Rank: int32(rank), PID: pid}) // else the lease tells in the end
}

// enclosingLevel is the level of the instance at uri; 0 if it does not say.
func enclosingLevel(uri string) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := client.Dial(ctx, uri, client.WithVersion(version))
	if err != nil {
		return 0
	}
	defer c.Close()
	var level int
	rep, err := call(ctx, c, api.AttrGet, wire.Any, api.AttrReq{Name: "instance-level"})
	if err == nil {
		fmt.Sscan(rep.Value, &level)
	}
	return level
}

// whoIsMissing explains why not all brokers came.
func (s *supervisor) whoIsMissing(cause error) error {
	if !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("the brokers did not come online: %w", cause)
	}
	ctx, cancel := context.WithTimeout(s.clients, time.Second)
	defer cancel()
	missing := s.missing(ctx)
	if len(missing) == 0 {
		return fmt.Errorf("the leader did not answer within %v: %s", s.o.startLimit(), whyFailed(s.info, 0))
	}
	var text strings.Builder
	for _, rank := range missing[:min(len(missing), 8)] {
		fmt.Fprintf(&text, "\nbroker %d: %s", rank, s.why(rank))
	}
	return fmt.Errorf("%d of %d brokers did not come online within %v%s", len(missing), s.info.Size, s.o.startLimit(), text.String())
}

// why says what is known of a broker that is not online.
func (s *supervisor) why(rank int) string {
	switch {
	case s.fleet != nil && rank >= s.fleet.first:
		return s.fleet.why(rank)
	case s.link != nil && rank > 0:
		return s.link.why(rank)
	}
	return s.local.why(rank)
}

// missing lists the ranks that the leader does not count as online.
func (s *supervisor) missing(ctx context.Context) []int {
	c, err := client.Dial(ctx, s.info.URI(0))
	if err != nil {
		return nil
	}
	defer c.Close()
	rep, err := call(ctx, c, api.OverlayStatus, wire.Any, api.Empty{})
	if err != nil {
		return nil
	}
	online := make(map[int]bool)
	for _, m := range rep.Members {
		online[int(m.Rank)] = m.State == "online"
	}
	var missing []int
	for rank := range s.info.Size {
		if !online[rank] {
			missing = append(missing, rank)
		}
	}
	return missing
}

// onProgress says once that jobs are active, and shows their number on a terminal.
func (s *supervisor) onProgress(ev evProgress) {
	if s.phase != draining {
		return
	}
	what := "jobs are"
	if ev.active == 1 {
		what = "job is"
	}
	if !s.told && s.program != nil {
		s.say("the command has ended, %d %s active: waiting (--on-exit=wait; an interrupt cancels)", ev.active, what)
	}
	s.told = true
	if s.e.isTerminal(s.e.stderr) {
		s.showLine("%d %s active", ev.active, what)
	}
}

// onStarted shows on a terminal how many brokers are online, if it takes long enough for anyone to wonder.
func (s *supervisor) onStarted(ev evStarted) {
	s.online = ev.online
	if s.phase == starting && time.Since(s.began) > 300*time.Millisecond && s.e.isTerminal(s.e.stderr) {
		s.showLine("%d of %d brokers online", ev.online, ev.size)
	}
}

// showLine puts a line in place of the one before, on a terminal.
func (s *supervisor) showLine(format string, args ...any) {
	s.clearLine()
	fmt.Fprintf(s.e.stderr, format, args...)
	s.shown = true
}
