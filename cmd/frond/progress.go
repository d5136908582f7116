package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress is a bar of jobs on a terminal's standard error. A nil progress shows nothing.
type progress struct {
	box   *mpb.Progress
	bar   *mpb.Bar
	last  map[jobspec.ID]tally
	short bool                   // a narrow terminal
	rate  *rate                  // nil = not shown
	shown atomic.Pointer[string] // the numbers in front of the bar; the bar's goroutine reads it
}

// tally is the numbers of jobs by what they are doing.
type tally struct{ n, pending, running, completed, failed int }

func (t tally) plus(o tally) tally {
	return tally{t.n + o.n, t.pending + o.pending, t.running + o.running, t.completed + o.completed, t.failed + o.failed}
}

func (t tally) String() string {
	return fmt.Sprintf("PD:%-4d R:%-4d CD:%-4d F:%-4d", t.pending, t.running, t.completed, t.failed)
}

// short is what matters most, for narrow terminals.
func (t tally) short() string { return fmt.Sprintf("%d/%d F:%d ", t.completed+t.failed, t.n, t.failed) }

func tallyOf(rep *api.WaitRep) tally {
	return tally{rep.N, rep.Pending, rep.Running, rep.Completed, rep.Failed + rep.Canceled + rep.TimedOut}
}

// newProgress makes a bar, nil where standard error is no terminal.
func newProgress(e *env) *progress {
	if !e.isTerminal(e.stderr) {
		return nil
	}
	width := 80
	if f, ok := e.stderr.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			width = w
		}
	}
	return progressOn(e.stderr, width)
}

// progressOn makes a bar on w, a terminal of so many columns.
func progressOn(w io.Writer, width int) *progress {
	p := &progress{box: mpb.New(mpb.WithOutput(w), mpb.WithWidth(60)), last: map[jobspec.ID]tally{}, short: width < 72}
	p.set(tally{})
	p.bar = p.box.AddBar(0,
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return *p.shown.Load() })),
		mpb.AppendDecorators(decor.NewPercentage("%d"), decor.Elapsed(decor.ET_STYLE_MMSS, decor.WCSyncSpace)))
	return p
}

// countRate has the jobs per second shown, if on.
func (p *progress) countRate(on bool) {
	if p != nil && on {
		p.rate = &rate{start: time.Now()}
	}
}

func (p *progress) set(t tally) {
	s := t.String()
	if p.short {
		s = t.short()
	}
	if p.rate != nil {
		s += p.rate.text(t.completed+t.failed, time.Now())
	}
	p.shown.Store(&s)
}

// update takes the newest numbers of one id.
func (p *progress) update(rep *api.WaitRep) {
	if p == nil || rep.Err != "" {
		return
	}
	p.last[rep.ID] = tallyOf(rep)
	var sum tally
	for _, t := range p.last {
		sum = sum.plus(t)
	}
	p.set(sum)
	p.bar.SetTotal(int64(sum.n), false)
	p.bar.SetCurrent(int64(sum.completed + sum.failed))
}

// show takes numbers of what is no job of its own.
func (p *progress) show(t tally) {
	p.set(t)
	p.bar.SetTotal(int64(t.n), false)
	p.bar.SetCurrent(int64(t.completed + t.failed))
}

// note prints a line: above the bar, or to w without one.
func (p *progress) note(line string, w io.Writer) {
	if p == nil {
		_, _ = io.WriteString(w, line)
		return
	}
	_, _ = p.box.Write([]byte(line))
}

// stop draws the bar a last time and ends it.
func (p *progress) stop() {
	if p == nil {
		return
	}
	p.bar.SetTotal(-1, true)
	p.box.Wait()
}
