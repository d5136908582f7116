package proc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/frond-hpc/frond/exec"
)

// Memory limits. A job that asks for memory may use no more on each of its nodes: the resident memory of everything that its tasks
// started is added up at intervals, and what is over its limit is told. Nothing is done for other jobs.
const (
	memoryEvery = 200 * time.Millisecond
	memoryShare = 50 // a look may take one part in so many of the time
)

// limitMemory has a job watched, if it has a limit. It needs d.mu.
func (d *Driver) limitMemory(j *job) {
	if !slices.ContainsFunc(j.Parts, func(p exec.Part) bool { return p.MemMiB > 0 }) {
		return
	}
	d.limited[j.ID] = j
	if !d.watching {
		d.watching = true
		d.wg.Add(1)
		go d.watchMemory()
	}
}

// watchMemory looks until no job has a limit.
func (d *Driver) watchMemory() {
	defer d.wg.Done()
	for wait := memoryEvery; ; {
		select {
		case <-d.closing:
			return
		case <-time.After(wait):
		}
		d.mu.Lock()
		if len(d.limited) == 0 {
			d.watching = false
			d.mu.Unlock()
			return
		}
		uses := d.memoryUsers()
		d.mu.Unlock()
		begun := time.Now()
		d.checkMemory(uses)
		wait = max(memoryEvery, memoryShare*time.Since(begun))
	}
}

// memoryUse is a job's part on one node.
type memoryUse struct {
	job  *job
	part *exec.Part
	pids []int // of the spawners of its tasks
}

// memoryUsers lists what has a limit. It needs d.mu.
func (d *Driver) memoryUsers() []memoryUse {
	var uses []memoryUse
	for _, j := range d.limited {
		for i := range j.Parts {
			u := memoryUse{job: j, part: &j.Parts[i]}
			for k := range j.tasks {
				if t := &j.tasks[k]; t.part == u.part && t.slot != nil {
					u.pids = append(u.pids, t.slot.sp.PID)
				}
			}
			if u.part.MemMiB > 0 && len(u.pids) > 0 {
				uses = append(uses, u)
			}
		}
	}
	return uses
}

func (d *Driver) checkMemory(uses []memoryUse) {
	if len(uses) == 0 {
		return
	}
	table := processes()
	for _, u := range uses {
		tree := table.below(u.pids)
		used := table.rss(tree)
		if used > u.part.MemMiB<<20 {
			used = proportional(tree, used) // pages that several of its processes share were counted for each of them
		}
		if used <= u.part.MemMiB<<20 {
			continue
		}
		d.mu.Lock()
		delete(d.limited, u.job.ID) // it is told once
		d.mu.Unlock()
		d.tell(exec.TaskEvent{Kind: exec.RunExceeds, Run: u.job.ID, Time: now(),
			Note: fmt.Sprintf("used %d of %d MiB of memory on %s", used>>20, u.part.MemMiB, d.nodeName(u.part.Node))})
	}
}

// process is one line of the table of all processes.
type process struct {
	parent int
	rss    int64 // bytes
}

type processTable map[int]process

// processes reads all of /proc/PID/stat.
func processes() processTable {
	table := processTable{}
	dir, err := os.Open("/proc")
	if err != nil {
		return table
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, ok := stat(name); ok {
				table[pid] = p
			}
		}
	}
	return table
}

var pageSize = int64(os.Getpagesize())

// stat reads /proc/PID/stat: after the name in parentheses stand state, parent and, as the 22nd, resident pages.
func stat(pid string) (process, bool) {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return process{}, false
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 22 {
		return process{}, false
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	pages, _ := strconv.ParseInt(string(fields[21]), 10, 64)
	return process{parent, pages * pageSize}, true
}

// below lists everything that descends from pids, without these.
func (t processTable) below(pids []int) []int {
	children := map[int][]int{}
	for pid, p := range t {
		children[p.parent] = append(children[p.parent], pid)
	}
	var tree []int
	for queue := slices.Clone(pids); len(queue) > 0; queue = queue[1:] {
		next := children[queue[0]]
		tree = append(tree, next...)
		queue = append(queue, next...)
	}
	return tree
}

func (t processTable) rss(pids []int) (sum int64) {
	for _, pid := range pids {
		sum += t[pid].rss
	}
	return sum
}

// proportional is the memory of processes with each shared page divided among those that share it, as far as the kernel tells; else
// what was found before.
func proportional(pids []int, rss int64) int64 {
	var sum int64
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if os.IsNotExist(err) {
			if _, gone := os.Stat(fmt.Sprintf("/proc/%d", pid)); gone == nil {
				return rss // a kernel without this file
			}
			continue
		}
		_, after, found := bytes.Cut(text, []byte("\nPss:"))
		fields := bytes.Fields(after)
		if err != nil || !found || len(fields) == 0 {
			return rss
		}
		kib, _ := strconv.ParseInt(string(fields[0]), 10, 64)
		sum += kib << 10
	}
	return sum
}
