package storetest

import (
	"fmt"
	"maps"
	"slices"

	"pgregory.net/rapid"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// Gen makes random transactions as a job service would: each on what the ones before it left. LastID grows with each, so
// that a store tells how many of them it holds.
type Gen struct {
	t     *rapid.T
	txns  []*job.Txn
	model *Model
	clock float64
	open  []Element // unfinished
	sizes map[outputKey]int64
	// purges were given, and the transactions before whole are not repeated: they might bring back what was purged.
	purges []purgeAfter
	whole  int
}

type outputKey struct {
	id      jobspec.ID
	attempt uint32
	task    int
	stream  uint8
}

// NewGen begins with an empty store.
func NewGen(t *rapid.T) *Gen {
	return &Gen{t: t, model: ModelOf(nil), clock: 1.7e9, sizes: map[outputKey]int64{}}
}

func (g *Gen) number(what string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(g.t, what) }

// Back forgets all transactions but the first n, and all purges of more elements than purged: a crash lost them.
func (g *Gen) Back(n, purged int) {
	g.txns = g.txns[:n]
	k := 0
	for k < len(g.purges) && g.purges[k].n <= n {
		k++
	}
	if g.model = g.fold(n, k); g.model.Purged > purged && k > 0 {
		k--
		g.model = g.fold(n, k)
	}
	g.purges = g.purges[:k]
	g.whole = min(g.whole, n)
	g.open = nil
	for _, id := range g.model.IDs() {
		for i := range g.model.Arrays[id].N {
			if _, ended := g.model.Elements[Element{id, i}]; !ended {
				g.open = append(g.open, Element{id, i})
			}
		}
	}
	clear(g.sizes)
	for id, rows := range g.model.Output {
		for _, o := range rows {
			g.sizes[outputKey{id, o.Attempt, o.Task, o.Stream}] += int64(len(o.Data))
		}
	}
}

// Next makes the next transaction. One in ten repeats all rows of an earlier one.
func (g *Gen) Next() *job.Txn {
	t := &job.Txn{}
	if n := len(g.txns); n > g.whole && g.number("repeat", 0, 9) == 0 {
		*t = *g.txns[g.number("which", g.whole, n-1)]
	} else {
		g.submissions(t)
		g.uploads(t)
		g.ends(t)
		g.starts(t)
		g.outputs(t)
		g.members(t)
		g.logs(t)
		g.grants(t)
	}
	t.LastID = g.model.LastID + 100
	g.txns = append(g.txns, t)
	g.model.Add(t)
	return t
}

func (g *Gen) submissions(t *job.Txn) {
	for range g.number("arrays", 0, 3) {
		k := len(g.model.Arrays) + len(t.Arrays)
		row := job.ArrayRow{ID: g.model.LastID + 1 + jobspec.ID(len(t.Arrays)*20), N: 1, Spec: uint64(1 + k%3), Urgency: 16, User: 1000, Submit: g.clock}
		if g.number("array", 0, 1) == 1 {
			row.N, row.CC, row.BCC = g.number("n", 2, 12), "1-12", k%2 == 0
		}
		if g.number("named", 0, 2) == 0 {
			row.Name, row.Env, row.Flags = fmt.Sprintf("name%d", k%2), uint64(1+k%2), 4
			row.Token = fmt.Sprintf("tok%d/%d", row.ID, k)
			if g.number("for ever", 0, 1) == 1 {
				row.Digest = fmt.Sprintf("d%d", k%2)
			}
		}
		if set, n := g.model.UploadOf(uploadToken); n > 1 && len(t.Arrays) == 0 && g.number("with parameters", 0, 1) == 1 {
			row.N, row.CC, row.Params = n, "", set
			row.Indexes, row.Size = "3,5-9", 77
		}
		t.Arrays = append(t.Arrays, row)
		t.Specs = append(t.Specs, job.SpecRow{ID: row.Spec, JSON: fmt.Appendf(nil, `{"n":%d}`, row.Spec)})
		if row.Env > 0 {
			t.Envs = append(t.Envs, job.EnvRow{ID: row.Env, Data: fmt.Appendf(nil, "A=%d\x00B=\x00", row.Env)})
		}
		for i := range row.N {
			g.open = append(g.open, Element{row.ID, i})
		}
		g.model.Arrays[row.ID] = row // for ElementID
	}
}

// uploadToken is the one under which parameters are uploaded.
const uploadToken = "parameters"

// uploads begins a set of parameters or goes on with one.
func (g *Gen) uploads(t *job.Txn) {
	for range g.number("chunks", 0, 2) {
		set, at := g.model.UploadOf(uploadToken)
		if k := len(t.Params); k > 0 {
			set, at = t.Params[k-1].Set, t.Params[k-1].First+t.Params[k-1].N
		} else if slices.ContainsFunc(t.Arrays, func(a job.ArrayRow) bool { return a.Params != 0 }) {
			set = 0
		}
		if set == 0 || at > 7 || g.number("anew", 0, 4) == 0 {
			set, at = g.model.Loaded().ParamID+1, 0
			if k := len(t.Params); k > 0 {
				set = max(set, t.Params[k-1].Set+1)
			}
			t.Uploads = append(t.Uploads, job.UploadRow{Set: set, Token: uploadToken, Time: 4e9})
		}
		n := g.number("lists", 1, 5)
		t.Params = append(t.Params, job.ParamsRow{Set: set, First: at, N: n, Data: fmt.Appendf(nil, "%d of %d", at, set)})
	}
}

// take removes an unfinished element.
func (g *Gen) take() Element {
	i := g.number("element", 0, len(g.open)-1)
	e := g.open[i]
	g.open = append(g.open[:i], g.open[i+1:]...)
	return e
}

func (g *Gen) ends(t *job.Txn) {
	for n := g.number("ends", 0, 5); n > 0 && len(g.open) > 0; n-- {
		e := g.take()
		g.clock += float64(g.number("pass", 0, 2)) / 4
		result := uint8(1 << g.number("result", 0, 3))
		if g.number("ranged", 0, 3) == 0 {
			t.Ranges = append(t.Ranges, g.ranged(e, result))
			continue
		}
		row := job.ElementRow{ID: g.model.ElementID(e.Array, e.Index), Array: e.Array, Index: e.Index, Result: result,
			Status: g.number("status", -1, 300), Attempt: uint32(g.number("attempt", 1, 3)), Start: g.clock - 1.5, End: g.clock,
			Nodelist: "n[1-2]", Ranks: "0-1", MaxRSS: 1 << 40, CPU: 0.25, Events: []byte{byte(e.Index), 0, 255}}
		if result == 1 {
			row.R = []byte(`{"version":1}`)
		} else {
			row.Nodelist, row.Events = "", nil
		}
		t.Ended = append(t.Ended, row)
	}
}

// ranged ends e and the unfinished elements that follow it in its array.
func (g *Gen) ranged(e Element, result uint8) job.RangeRow {
	r := job.RangeRow{Array: e.Array, Lo: e.Index, Hi: e.Index, Result: result, End: g.clock, Events: []byte("ev"), Status: g.number("range status", -1, 300)}
	for i := 0; i < len(g.open); {
		if g.open[i] == (Element{e.Array, r.Hi + 1}) {
			r.Hi++
			g.open = append(g.open[:i], g.open[i+1:]...)
			i = 0
			continue
		}
		i++
	}
	return r
}

func (g *Gen) starts(t *job.Txn) {
	if len(g.open) == 0 {
		return
	}
	for range g.number("starts", 0, 2) {
		e := g.open[g.number("started", 0, len(g.open)-1)]
		last := g.model.Starts[e].Attempt
		if g.number("retry", 0, 1) == 1 {
			t.Retried = append(t.Retried, job.StartRow{Array: e.Array, Index: e.Index, Attempt: last + 1, Failed: g.number("failed", 0, 2)})
		}
		t.Starts = append(t.Starts, job.StartRow{Array: e.Array, Index: e.Index, Attempt: last + 1, Node: "n1"})
	}
	if g.number("hi", 0, 1) == 1 {
		e := g.open[g.number("started", 0, len(g.open)-1)]
		t.Hi = append(t.Hi, job.HiRow{Array: e.Array, Hi: e.Index + 1})
	}
}

func (g *Gen) outputs(t *job.Txn) {
	if len(g.open) == 0 {
		return
	}
	for range g.number("outputs", 0, 4) {
		e := g.open[g.number("writer", 0, len(g.open)-1)]
		k := outputKey{g.model.ElementID(e.Array, e.Index), uint32(g.number("attempt", 1, 2)), g.number("task", 0, 1), uint8(g.number("stream", 1, 2))}
		data := make([]byte, g.number("bytes", 1, 40))
		for i := range data {
			data[i] = byte(int(g.sizes[k]) + i)
		}
		t.Output = append(t.Output, job.OutputRow{ID: k.id, Attempt: k.attempt, Task: k.task, Stream: k.stream, Offset: g.sizes[k], Data: data})
		g.sizes[k] += int64(len(data))
	}
}

// logs lets something happen to some arrays, which may be new or finished.
func (g *Gen) logs(t *job.Txn) {
	if g.number("queue", 0, 3) == 0 {
		name := []string{"", "debug", "batch"}[g.number("queue name", 0, 2)]
		t.Queues = append(t.Queues, job.QueueRow{Name: name, Disabled: len(g.txns)%2 == 0, Stopped: len(g.txns)%3 == 0, Why: fmt.Sprint("why", len(g.txns))})
	}
	for _, id := range g.model.IDs() {
		if g.number("log", 0, 5) == 0 {
			t.Logs = append(t.Logs, job.LogRow{Array: id, Log: fmt.Appendf(nil, "%d events", len(g.txns))})
		}
	}
}

// grants gives something to branches, and takes earlier grants for over.
func (g *Gen) grants(t *job.Txn) {
	for range g.number("grants", 0, 2) {
		num := uint64(len(g.txns)*10 + len(t.Grants) + 1)
		t.Grants = append(t.Grants, job.GrantRow{Num: num, Branch: g.number("branch", 0, 3), Items: fmt.Appendf(nil, "items of %d", num)})
	}
	for _, num := range slices.Sorted(maps.Keys(g.model.Grants)) {
		if num%3 == uint64(g.number("over", 0, 8)) {
			t.Over = append(t.Over, num)
		}
	}
}

func (g *Gen) members(t *job.Txn) {
	if rank := g.number("member", -3, 2); rank >= 0 {
		t.Members = append(t.Members, job.MemberRow{Rank: int32(rank), UUID: fmt.Sprint("u", len(g.txns)), Host: "h", BootID: "b", PID: 7, State: "online"})
	}
}
