package jobspec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
)

// Numbering says how a job's tasks are numbered over its nodes (shell option taskmap, Flux's --taskmap). How many tasks a node gets
// does not depend on it.
type Numbering struct {
	Scheme string // "" or "block", "cyclic", "hostfile", "manual"
	Value  string // cyclic: the stride; hostfile: a hostlist; manual: a taskmap
}

// Block tells whether tasks are numbered node by node.
func (n Numbering) Block() bool { return n.Scheme == "" || n.Scheme == "block" }

// ParseNumbering reads SCHEME[:VALUE]: block, cyclic[:N], hostfile:HOSTS, manual:TASKMAP.
func ParseNumbering(text string) (Numbering, error) {
	scheme, value, _ := strings.Cut(text, ":")
	n := Numbering{scheme, value}
	var err error
	switch scheme {
	case "block":
		if value != "" {
			err = fmt.Errorf("block takes no value")
		}
	case "cyclic":
		if _, err = n.stride(); err != nil {
			break
		}
	case "hostfile":
		if value == "" {
			err = fmt.Errorf("hostfile needs a list of hosts")
		} else {
			_, err = hostlist.Parse(value)
		}
	case "manual":
		_, err = ParseTaskmap(value)
	default:
		err = fmt.Errorf("there is no scheme %q; use block, cyclic[:N], hostfile:FILE or manual:TASKMAP", clip(scheme))
	}
	return n, err
}

func (n Numbering) stride() (int, error) {
	if n.Value == "" {
		return 1, nil
	}
	k, err := strconv.Atoi(n.Value)
	if err != nil || k < 1 || k > maxTasks {
		return 0, fmt.Errorf("the stride of cyclic must be an integer ≥ 1, not %q", clip(n.Value))
	}
	return k, nil
}

// Map numbers tasks[i] tasks on node i, whose name is names[i]. The error says why the numbering does not fit.
func (n Numbering) Map(tasks []int, names []string) (Taskmap, error) {
	var m Taskmap
	switch n.Scheme {
	case "cyclic":
		k, err := n.stride()
		if err != nil {
			return nil, err
		}
		m = cyclic(tasks, k)
	case "hostfile":
		hosts, err := hostlist.Parse(n.Value)
		if err != nil {
			return nil, err
		}
		if m, err = byHosts(hosts, tasks, names); err != nil {
			return nil, err
		}
	case "manual":
		var err error
		if m, err = ParseTaskmap(n.Value); err != nil {
			return nil, err
		}
	default:
		return BlockMap(tasks), nil
	}
	if got := m.Counts(len(tasks)); !slices.Equal(got, tasks) {
		return nil, fmt.Errorf("it puts %v tasks on the nodes, the job has %v", got, tasks)
	}
	return m, nil
}

// cyclic deals k tasks to each node in turn while the node has some left.
func cyclic(tasks []int, k int) Taskmap {
	left := slices.Clone(tasks)
	var m Taskmap
	for more := true; more; {
		more = false
		for node := range left {
			if n := min(k, left[node]); n > 0 {
				m = m.Append(Block{node, 1, n, 1})
				left[node] -= n
				more = true
			}
		}
		m = m.fold()
	}
	return m
}

// fold joins the last two blocks where they are one block twice.
func (m Taskmap) fold() Taskmap {
	if n := len(m); n >= 2 {
		a, b := &m[n-2], m[n-1]
		if a.NodeID == b.NodeID && a.NNodes == b.NNodes && a.PPN == b.PPN {
			a.Repeat += b.Repeat
			return m[:n-1]
		}
	}
	return m
}

// byHosts puts task i on the node named hosts[i], beginning anew at the end of hosts.
func byHosts(hosts []string, tasks []int, names []string) (Taskmap, error) {
	place := make(map[string]int, len(names))
	for i, name := range names {
		place[name] = i
	}
	total := 0
	for _, n := range tasks {
		total += n
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("its list of hosts is empty")
	}
	where := make([]int, total)
	for i := range where {
		node, ok := place[hosts[i%len(hosts)]]
		if !ok {
			return nil, fmt.Errorf("host %q is not among the job's nodes", clip(hosts[i%len(hosts)]))
		}
		where[i] = node
	}
	return taskmapOf(where), nil
}

// Counts is how many tasks each of n nodes has, with further places for nodes beyond.
func (m Taskmap) Counts(n int) []int {
	c := make([]int, n)
	for _, b := range m {
		for len(c) < b.NodeID+b.NNodes {
			c = append(c, 0)
		}
		for k := range b.NNodes {
			c[b.NodeID+k] += b.PPN * b.Repeat
		}
	}
	return c
}

// Tasks are the ids of a node's tasks, ascending.
func (m Taskmap) Tasks(node int) []int {
	var ids []int
	next := 0
	for _, b := range m {
		round := b.NNodes * b.PPN
		if k := node - b.NodeID; k >= 0 && k < b.NNodes {
			for r := range b.Repeat {
				for i := range b.PPN {
					ids = append(ids, next+r*round+k*b.PPN+i)
				}
			}
		}
		next += round * b.Repeat
	}
	return ids
}

// ParseTaskmap reads the JSON form, [[NODEID,NNODES,PPN,REPEAT],…], or the raw form of RFC 34: the tasks of each node as an idset,
// "0-1;2-3".
func ParseTaskmap(text string) (Taskmap, error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "[[") && !strings.HasPrefix(text, "{") && text != "[]" {
		return parseRaw(text)
	}
	v, err := decodeJSON([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("taskmap %w", err)
	}
	if o, ok := v.(object); ok {
		v = o.get("map")
	}
	rows, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("a taskmap is a list of blocks: [[NODEID,NNODES,PPN,REPEAT],…]")
	}
	var m Taskmap
	total := 0
	for _, r := range rows {
		b, err := parseBlock(r)
		if err != nil {
			return nil, err
		}
		if total += b.NNodes * b.PPN * b.Repeat; total > maxTasks {
			return nil, fmt.Errorf("a taskmap has at most %d tasks", maxTasks)
		}
		m = append(m, b)
	}
	return m, nil
}

func parseBlock(v any) (Block, error) {
	row, _ := v.([]any)
	var n [4]int
	if len(row) != len(n) {
		return Block{}, fmt.Errorf("a block of a taskmap is four integers: [NODEID,NNODES,PPN,REPEAT]")
	}
	for i := range n {
		lo := min(i, 1) // only NODEID may be 0
		var err error
		if n[i], err = optInt(row[i], -1, lo, 1<<20); err != nil || row[i] == nil {
			return Block{}, fmt.Errorf("a block of a taskmap is four integers: [NODEID,NNODES,PPN,REPEAT]")
		}
	}
	if n[1]*n[2] > maxTasks || n[1]*n[2]*n[3] > maxTasks {
		return Block{}, fmt.Errorf("a taskmap has at most %d tasks", maxTasks)
	}
	return Block{n[0], n[1], n[2], n[3]}, nil
}

// parseRaw reads "0-1;2-3": every id from 0 on, once.
func parseRaw(text string) (Taskmap, error) {
	nodes := strings.Split(text, ";")
	total := 0
	sets := make([]idset.Set, len(nodes))
	for i, part := range nodes {
		set, err := idset.Parse(part)
		if err != nil {
			return nil, fmt.Errorf("taskmap: %w", err)
		}
		sets[i] = set
		if total += set.Len(); total > maxTasks {
			return nil, fmt.Errorf("a taskmap has at most %d tasks", maxTasks)
		}
	}
	where := make([]int, total)
	for node, set := range sets {
		for id := range set.All() {
			if id >= total || where[id] != 0 {
				return nil, fmt.Errorf("taskmap: each task id from 0 to %d must stand on one node; %d does not", total-1, id)
			}
			where[id] = node + 1
		}
	}
	for id := range where {
		where[id]--
	}
	return taskmapOf(where), nil
}

// taskmapOf is the map by which task i is on node where[i].
func taskmapOf(where []int) Taskmap {
	var m Taskmap
	for i := 0; i < len(where); {
		n := 1
		for i+n < len(where) && where[i+n] == where[i] {
			n++
		}
		m = m.Append(Block{where[i], 1, n, 1}).fold()
		i += n
	}
	return m.fold()
}
