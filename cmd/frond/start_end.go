package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/outer"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/pflag"
)

// The end of an instance that is known before: of the allocation that it is in, as the scheduler there says (asked again and again, since it
// may be changed), or --time-limit, whichever is sooner. A margin before it is the instance's expiration: the leader starts nothing that cannot
// finish by then, and then the supervisor ends the instance, as if a SIGTERM had come.

// Events of the end.
type (
	// evEnd tells when the instance's allocation ends; zero = it has no limit.
	evEnd struct {
		at    time.Time
		grain time.Duration // answers that differ by less say the same
	}
	// evEndUnknown: the scheduler does not say it.
	evEndUnknown struct{ err error }
	// evTimeUp: the expiration may have come.
	evTimeUp struct{}
)

// Defaults of the end.
const (
	endMargin   = time.Minute
	childMargin = 5 * time.Second  // of a child instance
	askEvery    = time.Minute      // between two questions to a scheduler
	answerLimit = 10 * time.Second // for one answer
	firstAnswer = 2 * time.Second  // the command does not wait longer for the first
)

// endOptions are the options that concern the end.
type endOptions struct {
	limit  string // --time-limit; empty = none
	margin string // --end-margin; empty = the default
	ask    string // --ask-end: how often a scheduler is asked
}

func (o *endOptions) flags(f *pflag.FlagSet) {
	f.StringVarP(&o.limit, "time-limit", "t", "", "end the instance in order after `MINUTES`, or with a unit 90s, 1.5h; an allocation's end is known without")
	f.StringVar(&o.margin, "end-margin", "", "end so much before that, a `DURATION` (default: 60s, but not more than a tenth of the time that there is)")
	f.StringVar(&o.ask, "ask-end", "", "")
	f.Lookup("ask-end").Hidden = true
}

// check refuses what is no time.
func (o *endOptions) check() error {
	if _, err := o.timeLimit(); err != nil {
		return fmt.Errorf("--time-limit %s: %w", o.limit, err)
	}
	for _, x := range []struct{ name, value string }{{"end-margin", o.margin}, {"ask-end", o.ask}} {
		if s, err := jobspec.ParseFSD(x.value); x.value != "" && (err != nil || s < 0 || s > 24*3600) {
			return fmt.Errorf("--%s %s: must be between 0s and 24h", x.name, x.value)
		}
	}
	return nil
}

// timeLimit is --time-limit; 0 = none.
func (o *endOptions) timeLimit() (time.Duration, error) {
	if o.limit == "" {
		return 0, nil
	}
	s, err := jobspec.ParseTimeLimit(o.limit)
	if err != nil {
		return 0, err
	}
	if s < 0 || s > 100*365*86400 {
		return 0, errors.New("must be between 0 and 100 years")
	}
	return time.Duration(s * float64(time.Second)), nil
}

// duration reads one of the durations, or gives its default.
func duration(text string, otherwise time.Duration) time.Duration {
	s, err := jobspec.ParseFSD(text)
	if text == "" || err != nil {
		return otherwise
	}
	return time.Duration(s * float64(time.Second))
}

// endWatch is what the supervisor knows of its instance's end.
type endWatch struct {
	own    time.Time // by --time-limit; zero = none
	outer  evEnd     // as last told
	at     time.Time // the sooner of both; zero = none
	margin time.Duration
	first  chan struct{} // closed when the scheduler has answered, or surely will not
	timer  *time.Timer
	warned bool
	grace  time.Duration // that jobs have; 0 = no end has come
}

// expiration is when the instance is ended; zero = it has no end.
func (w *endWatch) expiration() time.Time {
	if w.at.IsZero() {
		return w.at
	}
	return w.at.Add(-w.margin)
}

// watchEnd begins to look for the end.
func (s *supervisor) watchEnd() {
	s.end.first = make(chan struct{})
	if limit, _ := s.o.end.timeLimit(); limit > 0 { // was checked
		s.end.own = s.began.Add(limit)
		s.onEnd(evEnd{})
	}
	if a := s.enclosed(); a != nil && a.EndQuery() != nil {
		go s.askEnd(a)
		return
	}
	close(s.end.first)
}

// enclosed is the allocation, or the job of another instance, that ends this one when it ends.
func (s *supervisor) enclosed() *outer.Allocation {
	if a := s.plan.around(); a != nil || s.o.child != nil || s.o.boot == "none" {
		return a
	}
	if a, err := outer.Detect(s.e.getenv); err == nil && a != nil && a.Where == outer.Job {
		return a
	}
	return nil
}

// askEnd asks the scheduler for as long as the instance runs.
func (s *supervisor) askEnd(a *outer.Allocation) {
	every := duration(s.o.end.ask, askEvery)
	for n := 0; ; n++ {
		end, err := queryEnd(s.clients, a)
		if err == nil {
			s.events <- evEnd{end.At, end.Grain}
		} else if n == 0 && s.clients.Err() == nil {
			s.events <- evEndUnknown{err}
		}
		if n == 0 {
			close(s.end.first)
		}
		select {
		case <-time.After(every):
		case <-s.clients.Done():
			return
		}
	}
}

// queryEnd asks once.
func queryEnd(ctx context.Context, a *outer.Allocation) (outer.End, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	argv := a.EndQuery()
	program := argv[0]
	if self, err := os.Executable(); err == nil && a.Kind == "frond" {
		program = self
	}
	cmd := exec.CommandContext(ctx, program, argv[1:]...)
	cmd.Env = outer.EndEnviron(os.Environ())
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return outer.End{}, fmt.Errorf("%s: %w %s", strings.Join(argv, " "), err, strings.TrimSpace(said.String()))
	}
	return a.ParseEnd(string(out), time.Now(), time.Local)
}

// firstAnswer waits a little for the scheduler to say when the allocation ends, so that the first jobs know.
func (s *supervisor) firstAnswer(ctx context.Context) {
	select {
	case <-s.end.first:
	case <-time.After(firstAnswer):
	case <-ctx.Done():
	}
}

// onEnd takes in when the allocation ends.
func (s *supervisor) onEnd(ev evEnd) {
	w := &s.end
	if d := ev.at.Sub(w.outer.at); !w.outer.at.IsZero() && !ev.at.IsZero() && d.Abs() < ev.grain {
		return
	}
	w.outer = ev
	at := ev.at
	if at.IsZero() || !w.own.IsZero() && w.own.Before(at) {
		at = w.own
	}
	if at.Equal(w.at) {
		return
	}
	w.at = at
	left := time.Until(at)
	most := endMargin
	if s.o.child != nil {
		most = childMargin
	}
	w.margin = duration(s.o.end.margin, min(most, max(left, 0)/10))
	if w.timer != nil {
		w.timer.Stop()
	}
	expires := 0.0
	if !at.IsZero() {
		w.timer = time.AfterFunc(time.Until(w.expiration()), func() { s.events <- evTimeUp{} })
		expires = float64(w.expiration().UnixMicro()) / 1e6
		s.warnOfEnd()
	}
	s.publishEnd(expires)
}

// warnOfEnd says once that what has not ended by then is lost, if it is.
func (s *supervisor) warnOfEnd() {
	if w := &s.end; !w.warned && s.info.TempState && w.own.IsZero() && s.o.child == nil {
		w.warned = true
		s.say("this allocation ends at %s; jobs that have not ended %s before are lost then. With --statedir DIR the same command goes on with them in the next one",
			w.at.Format("2006-01-02 15:04:05"), jobspec.FormatFSD(w.margin.Seconds()))
	}
}

// publishEnd tells the leader, and leaves it for a later leader and for who lists instances.
func (s *supervisor) publishEnd(expires float64) {
	info := *s.info
	info.Expiration = expires
	if err := info.Save(); err != nil {
		s.say("a leader that is restarted will not know when the instance ends: %v", err)
	}
	s.entry.Expiration = expires
	if s.reg.Dir != "" {
		s.reg.Add(s.entry, nil) // else `frond list` shows another time
	}
	s.expires.Store(&expires)
	go s.tellEnd()
}

// tellEnd tells the leader what is known last.
func (s *supervisor) tellEnd() {
	c, err := dialLeader(s.clients, s.info)
	if err != nil {
		return // it is over
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(s.clients, leaderLimit)
	defer cancel()
	call(ctx, c, api.ExpirationUpdate, wire.Any, api.ExpirationReq{Expiration: *s.expires.Load()}) // a leader that dies meanwhile is followed by one that reads it
}

// onTimeUp ends the instance if its expiration has come. A child is ended by its parent, for which it is a job like others: it has reached its time limit, or is kept.
func (s *supervisor) onTimeUp() {
	w := &s.end
	if w.at.IsZero() || time.Now().Before(w.expiration()) || s.phase == ending || s.phase == stopping || s.o.child != nil && !w.at.Equal(w.own) {
		return
	}
	what := "the allocation ends"
	if w.at.Equal(w.own) {
		what = "the time limit ends"
	}
	s.say("%s at %s: ending the instance", what, w.at.Format("15:04:05"))
	s.signals++
	w.grace = w.margin / 3
	s.endBy(syscall.SIGTERM, min(max(w.margin/3, 200*time.Millisecond), endGrace))
}

// endGrace is how long the program has at most, when the instance's time is up, before the jobs are ended.
const endGrace = 20 * time.Second
