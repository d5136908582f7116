package jobspec

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// maxTasks bounds the tasks of one job, so that no request fills a broker's memory.
const maxTasks = 1 << 24

// Layout distributes a job's tasks over its nodes as Flux's shell does. slots and cores are what the job has on each node; coresPerSlot
// is Request.Cores. It fails if a node set is empty or the job has too many tasks.
func Layout(slots, cores []int, count TaskCount, coresPerSlot int) ([]int, error) {
	if len(slots) == 0 || len(slots) != len(cores) {
		return nil, fmt.Errorf("lay out tasks: slots on %d nodes and cores on %d", len(slots), len(cores))
	}
	tasks := make([]int, len(slots))
	total := 0
	for i := range tasks {
		switch {
		case count.PerNode > 0:
			tasks[i] = count.PerNode
		case count.PerCore > 0:
			tasks[i] = count.PerCore * cores[i]
		case count.PerSlot > 0:
			tasks[i] = count.PerSlot * slots[i]
		}
		total += tasks[i]
	}
	if count.Total > 0 {
		total = count.Total
	}
	if total == 0 || total > maxTasks {
		return nil, fmt.Errorf("lay out tasks: a job of %d tasks is not possible; the limit is %d", total, maxTasks)
	}
	if count.Total > 0 {
		deal(tasks, cores, count.Total, coresPerSlot)
	}
	return tasks, nil
}

// deal gives total tasks to nodes one at a time: the node with most cores first, in turns, while it has cores for one more; when no
// node has, all start afresh (flux-facts §9.5).
func deal(tasks, cores []int, total, perTask int) {
	order := make([]int, len(cores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cores[b] - cores[a] })
	perTask = max(1, min(perTask, cores[order[len(order)-1]]))
	var queue, free []int
	for ; total > 0; total-- {
		for len(queue) > 0 && free[queue[0]] < perTask {
			queue = queue[1:]
		}
		if len(queue) == 0 {
			queue, free = slices.Clone(order), slices.Clone(cores)
		}
		head := queue[0]
		tasks[head]++
		free[head] -= perTask
		queue = append(queue[1:], head)
	}
}

// Block is a block of a Taskmap (Flux RFC 34): Repeat times, each of NNodes nodes from NodeID on gets the next PPN task ids.
type Block struct{ NodeID, NNodes, PPN, Repeat int }

// Taskmap tells which node runs which task.
type Taskmap []Block

// BlockMap is the taskmap of tasks numbered node by node, tasks[i] of them on node i.
func BlockMap(tasks []int) Taskmap {
	var m Taskmap
	for node, n := range tasks {
		if n > 0 {
			m = m.Append(Block{node, 1, n, 1})
		}
	}
	return m
}

// Append adds a block, joined with the last one where that means the same.
func (m Taskmap) Append(b Block) Taskmap {
	if len(m) > 0 {
		last := &m[len(m)-1]
		switch {
		case last.NodeID+last.NNodes == b.NodeID && last.PPN == b.PPN && last.Repeat == 1 && b.Repeat == 1:
			last.NNodes += b.NNodes
			return m
		case last.NNodes == 1 && b.NNodes == 1 && last.NodeID == b.NodeID && last.Repeat == 1 && b.Repeat == 1:
			last.PPN += b.PPN
			return m
		case last.NodeID == b.NodeID && last.NNodes == b.NNodes && last.PPN == b.PPN:
			last.Repeat += b.Repeat
			return m
		}
	}
	return append(m, b)
}

// String returns the JSON form: "[[0,2,4,1]]".
func (m Taskmap) String() string {
	rows := make([][4]int, len(m))
	for i, b := range m {
		rows[i] = [4]int{b.NodeID, b.NNodes, b.PPN, b.Repeat}
	}
	text, _ := json.Marshal(rows) // numbers cannot fail
	return string(text)
}

// PMI returns PMI_process_mapping (RFC 13): "(vector,(0,2,4))"; repeats are written out.
func (m Taskmap) PMI() string {
	var b strings.Builder
	b.WriteString("(vector")
	for _, blk := range m {
		for range blk.Repeat {
			fmt.Fprintf(&b, ",(%d,%d,%d)", blk.NodeID, blk.NNodes, blk.PPN)
		}
	}
	b.WriteByte(')')
	return b.String()
}
