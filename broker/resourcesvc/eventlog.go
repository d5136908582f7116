package resourcesvc

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
)

// maxEvents bounds the events that are kept; a log that was cut begins with a truncate event.
const maxEvents = 4096

// journal is the log of what happened to nodes since this leader began, with its readers.
type journal struct {
	events    []api.Event
	truncated bool
	followers []*rpc.Request
}

// eventContext is that of all events: which nodes, and for a drain why.
type eventContext struct {
	IDSet    string `json:"idset"`
	Nodelist string `json:"nodelist"`
	Reason   string `json:"reason,omitempty"`
}

// post logs events of the same name for nodes, by reason, and passes them to who follows.
func (j *journal) post(now time.Time, out *reactor.Out, name string, nodes []*node, reason func(*node) string) {
	var order []string
	by := map[string][]*node{}
	for _, n := range nodes {
		why := ""
		if reason != nil {
			why = reason(n)
		}
		if by[why] == nil {
			order = append(order, why)
		}
		by[why] = append(by[why], n)
	}
	for _, why := range order {
		var set idset.Set
		names := make([]string, 0, len(by[why]))
		for _, n := range by[why] {
			set.Add(n.Index)
			names = append(names, n.Name)
		}
		ctx, err := json.Marshal(eventContext{set.String(), hostlist.Encode(names), why})
		if err == nil {
			j.add(out, api.Event{Timestamp: float64(now.UnixMicro()) / 1e6, Name: name, Context: string(ctx)})
		}
	}
}

func (j *journal) add(out *reactor.Out, ev api.Event) {
	j.events = append(j.events, ev)
	if len(j.events) > 2*maxEvents {
		j.events, j.truncated = slices.Clone(j.events[maxEvents:]), true
	}
	for _, r := range j.followers {
		out.Next(r, api.ResourceEventsRep{Events: []api.Event{ev}})
	}
}

// open sends the history, and with follow what comes.
func (j *journal) open(r *rpc.Request, follow bool, out *reactor.Out) {
	events := slices.Clone(j.events)
	if j.truncated {
		events = slices.Insert(events, 0, api.Event{Timestamp: events[0].Timestamp, Name: "truncate"})
	}
	if len(events) > 0 {
		out.Next(r, api.ResourceEventsRep{Events: events})
	}
	if !follow {
		out.End(r)
		return
	}
	out.Next(r, api.ResourceEventsRep{})
	j.followers = append(j.followers, r)
}

// cancel forgets a reader.
func (j *journal) cancel(key rpc.RequestKey) {
	j.followers = slices.DeleteFunc(j.followers, func(r *rpc.Request) bool { return r.Key() == key })
}
