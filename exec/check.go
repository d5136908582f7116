package exec

import (
	"errors"
	"fmt"
)

// Check returns what is wrong with the state; nil if its invariants hold. For tests: it looks at everything.
func (m *Machine) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	live, timed := 0, 0
	for ref, r := range m.runs {
		if ref != r.job.Ref {
			bad("run %v stands under %v", r.job.Ref, ref)
		}
		if !r.over {
			live++
		}
		if r.place != 0 {
			timed++
		}
		m.checkRun(r, bad)
	}
	if live != m.live {
		bad("%d runs are live, counted %d", live, m.live)
	}
	if timed != len(m.timers) {
		bad("%d runs have a deadline, %d are in the heap", timed, len(m.timers))
	}
	for i, r := range m.timers {
		if r.place != i+1 || i > 0 && m.timers.less(i, (i-1)/2) {
			bad("heap is out of order at %d", i)
		}
	}
	m.checkRecords(bad)
	m.checkFences(bad)
	for id, s := range m.sides {
		if s.id != id || s.of.side != s || s.of.over || s.of.phase == inTasks {
			bad("command %d does not belong to what run %v is at", id, s.of.job.Ref)
		}
	}
	return errors.Join(errs...)
}

func (m *Machine) checkRun(r *run, bad func(string, ...any)) {
	_, known := m.byID[r.job.ID]
	switch {
	case r.over && (r.place != 0 || r.fresh || r.discard):
		bad("run %v is over and still has a deadline, a Started or is unwanted", r.job.Ref)
	case known != (!r.over && !r.mock):
		bad("run %v: known to the driver %v, over %v, mock %v", r.job.Ref, known, r.over, r.mock)
	case r.ended > r.ntasks || r.started > r.ntasks:
		bad("run %v has %d tasks, %d started, %d ended", r.job.Ref, r.ntasks, r.started, r.ended)
	case r.ending && !r.over && r.killAt == 0:
		bad("run %v is told to end and nothing will kill it", r.job.Ref)
	case m.past.has(r.job.Ref):
		bad("run %v is acknowledged and still there", r.job.Ref)
	}
}

// checkFences: a call out belongs to a run that waits for it, one that failed is asked for again, and nobody waits for a run that is over.
func (m *Machine) checkFences(bad func(string, ...any)) {
	for call, r := range m.asks {
		if r.over || r.ask == nil || r.ask.call != call {
			bad("call %d asks for a fence that run %v does not wait for", call, r.job.Ref)
		}
	}
	for ref, r := range m.runs {
		if r.ask != nil && r.ask.call == 0 && r.fenceAt == 0 {
			bad("run %v waits for a fence that nobody asks for", ref)
		}
	}
	for ref, f := range m.fences {
		if m.past.has(ref) || m.runs[ref] != nil && m.runs[ref].over {
			bad("a fence of run %v stands, which is over", ref)
		}
		if len(f.from) >= f.of || len(f.from) != len(f.keys) {
			bad("the fence of run %v has %d of %d brokers, %d wait", ref, len(f.from), f.of, len(f.keys))
		}
	}
}

// checkRecords: every ended run has exactly one Ended record waiting, and the bytes add up.
func (m *Machine) checkRecords(bad func(string, ...any)) {
	ended := map[Ref]int{}
	bytes := 0
	count := func(recs []Record) {
		for i := range recs {
			bytes += len(recs[i].Data)
			if recs[i].Kind == RecEnded {
				ended[recs[i].Ref]++
			}
		}
	}
	for _, b := range m.queue.sent {
		count(b.recs)
	}
	count(m.queue.pending)
	for ref, r := range m.runs {
		if r.over && ended[ref] != 1 {
			bad("run %v is over with %d Ended records", ref, ended[ref])
		}
	}
	if bytes != m.queue.bytes {
		bad("%d bytes of output wait, counted %d", bytes, m.queue.bytes)
	}
	if len(m.queue.sent) > 0 && !m.synced {
		bad("reports are out in a session that does not stand")
	}
}
