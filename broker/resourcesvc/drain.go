package resourcesvc

import (
	"slices"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
)

// targets finds the nodes that a drain names: by an idset of indexes, or by a hostlist of names (a name means all nodes that have it).
// The error names the first that there is not.
func (b *book) targets(text string) ([]*node, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, wire.Errorf(wire.Invalid, "no nodes are named: give indexes (0-3) or names (node[1-3])")
	}
	if strings.Trim(text, "0123456789,-[]") == "" {
		return b.byIndex(text)
	}
	return b.byName(text)
}

func (b *book) byIndex(text string) ([]*node, error) {
	set, err := idset.Parse(text)
	if err != nil {
		return nil, wire.Errorf(wire.Invalid, "%v", err)
	}
	var found []*node
	for i := range set.All() { // stops at the first unknown: a huge range costs nothing
		n := b.get(i)
		if n == nil {
			return nil, wire.Errorf(wire.NotFound, "there is no node %d", i)
		}
		found = append(found, n)
	}
	return found, nil
}

func (b *book) byName(text string) ([]*node, error) {
	names, err := hostlist.Parse(text)
	if err != nil {
		return nil, wire.Errorf(wire.Invalid, "%v", err)
	}
	byName := make(map[string][]*node)
	for _, n := range b.nodes {
		if n != nil {
			byName[n.Name] = append(byName[n.Name], n)
		}
	}
	var found []*node
	for _, name := range names {
		if byName[name] == nil {
			return nil, wire.Errorf(wire.NotFound, "there is no node %q", name)
		}
		found = append(found, byName[name]...)
	}
	return found, nil
}

// drain takes nodes out of scheduling. As in Flux, one that is drained already keeps its reason, unless it has none or Update is set,
// and its time, unless Force is set. With Strict that is an error instead.
func (b *book) drain(req api.DrainReq, now float64, ch *api.NodesChanged) error {
	nodes, err := b.targets(req.Targets)
	if err != nil {
		return err
	}
	if req.Strict && !req.Update {
		if at := slices.IndexFunc(nodes, func(n *node) bool { return n.drained && n.reason != "" && n.reason != req.Reason }); at >= 0 {
			n := nodes[at]
			return wire.Errorf(wire.Invalid, "node %s (%d) is drained already: %q (-u leaves it so, -f replaces the reason)", n.Name, n.Index, n.reason)
		}
	}
	for _, n := range nodes {
		was := n.up()
		if !n.drained {
			n.drained, n.since, n.reason = true, now, req.Reason
		} else if n.reason == "" || req.Update {
			n.reason = req.Reason
			if req.Force {
				n.since = now
			}
		} else {
			continue
		}
		if ch.Drained == nil {
			ch.Drained = make(map[int]string)
		}
		ch.Drained[n.Index] = n.reason
		n.tell(was, ch)
	}
	return nil
}

// undrain puts nodes back. Without Force all of them must be drained, else none is changed.
func (b *book) undrain(req api.DrainReq, ch *api.NodesChanged) error {
	nodes, err := b.targets(req.Targets)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(nodes, func(n *node) bool { return !n.drained })
	if at >= 0 && !req.Force {
		return wire.Errorf(wire.Invalid, "node %s (%d) is not drained", nodes[at].Name, nodes[at].Index)
	}
	for _, n := range nodes {
		if !n.drained {
			continue
		}
		n.drained, n.reason, n.since = false, "", 0
		ch.Undrained = append(ch.Undrained, n.Index)
		n.tell(false, ch)
	}
	return nil
}
