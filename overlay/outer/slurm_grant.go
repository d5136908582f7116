package outer

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
)

// gresGPU is an entry of GRES= for gpus: "gpu:2(IDX:0-1)", "gpu:a100:1(IDX:3)", "gpu:0".
var gresGPU = regexp.MustCompile(`(?:^|,)gpu(?::[^:,()]+)*:([0-9]+)(?:\(IDX:([0-9,-]*)\))?`)

// SlurmGrant takes in what the job has on each node, from the output of `scontrol -d -o show job`: groups of words Nodes=… CPU_IDs=… Mem=… GRES=….
// The environment tells neither the memory that is a default of the site nor, in a shell of salloc, gpus. Nothing is more than before,
// but gpus.
func (a *Allocation) SlurmGrant(scontrol string) {
	var group []int // indexes of the nodes that the words are about
	for word := range strings.FieldsSeq(scontrol) {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "Nodes":
			group = nil
			nodes, _ := hostlist.Parse(value)
			for _, n := range nodes {
				if i := slices.Index(a.Nodes, n); i >= 0 {
					group = append(group, i)
				}
			}
		case "Mem":
			if m, err := strconv.ParseInt(value, 10, 64); err == nil && m > 0 {
				a.limitMemory(group, m)
			}
		case "GRES":
			a.grantGPUs(group, value)
			group = nil
		}
	}
}

func (a *Allocation) limitMemory(group []int, mib int64) {
	if a.MemMiB == nil {
		a.MemMiB = make([]int64, len(a.Nodes)) // 0 is no limit
	}
	for _, i := range group {
		if a.MemMiB[i] == 0 || mib < a.MemMiB[i] {
			a.MemMiB[i] = mib
		}
	}
}

func (a *Allocation) grantGPUs(group []int, gres string) {
	var ids idset.Set
	for _, m := range gresGPU.FindAllStringSubmatch(gres, -1) {
		if set, err := idset.Parse(m[2]); err == nil && m[2] != "" {
			ids = ids.Union(set)
		}
	}
	if ids.Len() == 0 {
		return
	}
	a.GPUs = true
	if a.GPUIDs == nil {
		a.GPUIDs = make([]string, len(a.Nodes))
	}
	for _, i := range group {
		a.GPUIDs[i] = ids.String()
	}
}

// LacksNoKill tells whether a job was surely submitted without --no-kill: by its command line as accounting has it (empty: it has none), and by the
// directives of its script.
func LacksNoKill(submitLine, script string) bool {
	words := strings.Fields(submitLine)
	for line := range strings.Lines(script) {
		if rest, ok := strings.CutPrefix(line, "#SBATCH"); ok {
			words = append(words, strings.Fields(rest)...)
		}
	}
	return strings.TrimSpace(submitLine) != "" && !slices.ContainsFunc(words, func(w string) bool {
		return w == "-k" || w == "--no-kill" || strings.HasPrefix(w, "--no-kill=") && w != "--no-kill=off"
	})
}

// ThreadsPerCPU tells for each node how many of Slurm's cpus make a core, from the output of `scontrol -o show node`: where it counts hardware threads
// more than one. Nodes of which that cannot be told are not in the map.
func ThreadsPerCPU(scontrol string) map[string]int {
	out := map[string]int{}
	for line := range strings.Lines(scontrol) {
		var name string
		n := map[string]int{}
		for _, f := range strings.Fields(line) {
			k, v, _ := strings.Cut(f, "=")
			if k == "NodeName" {
				name = v
			}
			n[k], _ = strconv.Atoi(v)
		}
		threads, cores := n["ThreadsPerCore"], n["Sockets"]*n["CoresPerSocket"]
		if name != "" && threads > 1 && n["CPUTot"] == cores*threads {
			out[name] = threads
		}
	}
	return out
}
