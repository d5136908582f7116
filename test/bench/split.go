package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/branchsvc"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
)

// What is split, and what runs on it. The nodes are made up, one for each broker; a real job's core is too, so that jobs run where the
// kernel puts them.
const (
	splitNodes = 16
	splitMock  = 200000 // at most
	splitReal  = 8000   // at least: what a leader needs a second, whatever runs, is to be seen for what it is
	mockCores  = 64     // of a node
	realCores  = 1
)

// splits are the trees that are compared; the first has no branches.
var splits = [][]int{nil, {2}, {4}, {2, 2}, {4, 4}}

// splitLoad is one array that is run on each of them.
type splitLoad struct {
	kind  string // as in a row
	cores int    // of a node
	n     int
	item  api.SubmitItem
}

// splitRun is what one run has shown.
type splitRun struct {
	rate float64   // jobs a second
	cpu  []float64 // by level, the top first: CPU seconds of its leaders for each job of the run
}

// splitRows: one queue over trees of branches with the same number of brokers, measured, and what follows for more nodes than there are here.
func splitRows(ctx context.Context, b *bench) ([]row, error) {
	mock, real := min(b.mock, splitMock), max(b.jobs, splitReal)
	var rows []row
	runs := make(map[string]splitRun) // of mock jobs, by what rows call the tree
	for _, load := range []splitLoad{
		{"mock", mockCores, mock, api.SubmitItem{Spec: spec("0.001s", "true"), N: mock, Urgency: 16}},
		{"real", realCores, real, api.SubmitItem{Spec: spec("", "true"), Env: 1, N: real, Urgency: 16}},
	} {
		var flat splitRun
		var rates, costs []row
		for i, widths := range splits {
			run, err := b.splitRun(ctx, widths, load)
			if err != nil {
				return nil, fmt.Errorf("%s jobs, %s: %w", load.kind, splitName(widths), err)
			}
			if i == 0 {
				flat = run
			}
			if load.kind == "mock" {
				runs[splitName(widths)] = run
			}
			rates = append(rates, row{what: fmt.Sprintf("%d jobs, %s", load.n, splitName(widths)), kind: load.kind, value: run.rate, unit: "jobs/s", base: flat.rate, baseWhat: "flat"})
			costs = append(costs, splitCost(widths, load.kind, run.cpu[0], flat.cpu[0]))
			for l := 1; l < len(run.cpu) && load.kind == "mock"; l++ {
				costs = append(costs, row{what: fmt.Sprintf("CPU a job of the leaders of level %d, %s", l+1, splitName(widths)), kind: load.kind, value: 1e6 * run.cpu[l], unit: "µs",
					base: 1e6 * flat.cpu[0], baseWhat: "flat", lower: true})
			}
		}
		rows = append(append(rows, rates...), costs...)
	}
	return append(rows, modelRows(runs)...), nil
}

// splitCost is the row of what the top leader needs for a job. The limits are for the largest tree.
func splitCost(widths []int, kind string, cost, flat float64) row {
	r := row{what: "top leader's CPU a job, " + splitName(widths), kind: kind, value: 1e6 * cost, unit: "µs", base: 1e6 * flat, baseWhat: "flat", lower: true}
	if slices.Equal(widths, splits[len(splits)-1]) {
		r.floor, r.aim = math.Round(1e8*flat/5)/100, math.Round(1e8*flat/20)/100
		r.baseWhat = "flat; floor 1/5, aim 1/20"
	}
	return r
}

func splitName(widths []int) string {
	if len(widths) == 0 {
		return "flat"
	}
	return "--split " + branchsvc.Widths(widths)
}

// splitRun runs a load on one tree, from its submission until all that ended is durable at the top.
func (b *bench) splitRun(ctx context.Context, widths []int, load splitLoad) (run splitRun, err error) {
	args := []string{"-n", fmt.Sprint(splitNodes), "--resources", fmt.Sprintf("node[%d]/core[%d]", splitNodes, load.cores)}
	if len(widths) > 0 {
		args = append(args, "--split", branchsvc.Widths(widths))
	}
	in, err := b.start(ctx, args...)
	if err != nil {
		return run, err
	}
	defer func() {
		if _, stopErr := in.stop(); err == nil {
			err = stopErr
		}
	}()
	levels, err := in.leaders(ctx, widths)
	defer func() {
		for _, level := range levels[1:] {
			for _, c := range level {
				_ = c.Close()
			}
		}
	}()
	if err != nil {
		return run, err
	}
	before, err := cpuOf(ctx, levels)
	if err != nil {
		return run, err
	}
	began := time.Now()
	if _, err := in.submit(ctx, load.item); err != nil {
		return run, err
	}
	counts, err := in.idle(ctx)
	if err == nil {
		err = expect(counts, load.n)
	}
	if err != nil {
		return run, err
	}
	run.rate = float64(load.n) / time.Since(began).Seconds()
	run.cpu, err = cpuOf(ctx, levels)
	for i := range run.cpu {
		run.cpu[i] = (run.cpu[i] - before[i]) / float64(load.n)
	}
	return run, err
}

// cpuOf is the CPU seconds that the leaders of each level have used (getrusage of their processes).
func cpuOf(ctx context.Context, levels [][]*client.Client) ([]float64, error) {
	sums := make([]float64, len(levels))
	for i, level := range levels {
		for _, c := range level {
			st, err := client.Call(ctx, c, api.Stats, api.Empty{}, client.Rank(0))
			if err != nil {
				return nil, err
			}
			sums[i] += st.CPU
		}
	}
	return sums, nil
}

// branchesUp is how long all branches may take to come up.
const branchesUp = time.Minute

// leaders waits until all branches take work, and connects to their leaders: by level, the top, which is the instance's own client, first.
// What it has connected to when it fails it returns, too.
func (in *instance) leaders(ctx context.Context, widths []int) ([][]*client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, branchesUp)
	defer cancel()
	levels := [][]*client.Client{{in.c}}
	for i, w := range widths {
		levels = append(levels, nil)
		for _, c := range levels[i] {
			branches, err := branchesOf(ctx, c, w)
			levels[i+1] = append(levels[i+1], branches...)
			if err != nil {
				return levels, fmt.Errorf("the branches of level %d: %w", i+2, err)
			}
		}
	}
	return levels, nil
}

// branchesOf waits until an instance has n branches that take work, and connects to their leaders.
func branchesOf(ctx context.Context, c *client.Client, n int) (up []*client.Client, err error) {
	for {
		rep, err := client.Call(ctx, c, api.BranchStatus, api.Empty{})
		if err != nil {
			return nil, err
		}
		online := 0
		for _, b := range rep.Branches {
			if b.State == "online" {
				online++
			}
		}
		if online < n {
			select {
			case <-ctx.Done():
				return nil, fmt.Errorf("%d of %d take work after %v", online, n, branchesUp)
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		for _, b := range rep.Branches {
			uri, err := uriOf(ctx, c, b.Job)
			if err != nil {
				return up, err
			}
			leader, err := client.Dial(ctx, uri)
			if err != nil {
				return up, err
			}
			up = append(up, leader)
		}
		return up, nil
	}
}

// uriOf is where the instance is that is a job here: its memo tells.
func uriOf(ctx context.Context, c *client.Client, id jobspec.ID) (string, error) {
	s, err := client.Open(ctx, c, api.List, api.ListReq{IDs: []jobspec.ID{id}})
	if err != nil {
		return "", err
	}
	defer s.Close()
	rep, err := s.Next()
	if err != nil {
		return "", err
	}
	if len(rep.Jobs) != 1 {
		return "", fmt.Errorf("job %v is %d jobs", id, len(rep.Jobs))
	}
	var memo struct {
		URI string `json:"uri"`
	}
	if err := json.Unmarshal([]byte(rep.Jobs[0].Memo), &memo); err != nil {
		return "", fmt.Errorf("job %v: its memo %q: %w", id, rep.Jobs[0].Memo, err)
	}
	u, err := url.Parse(memo.URI)
	if err != nil {
		return "", err
	}
	return "local://" + u.Path, nil
}

// What the model computes for: branches of each level, and how many jobs a second a node has room for.
const (
	modelWidth  = 32
	modelCores  = 64
	modelJob    = 10.0 // seconds, of one core
	modelDemand = modelCores / modelJob
)

// modelLevels are the trees of 1 to 3 levels, with what their leaders needed in the runs of as many levels.
func modelLevels(runs map[string]splitRun) [][]level {
	one, two, three := runs[splitName(nil)].cpu, runs[splitName([]int{4})].cpu, runs[splitName([]int{4, 4})].cpu
	return [][]level{
		{{"the leader", 1, one[0]}},
		{{"the top leader", 1, two[0]}, {"level 2", modelWidth, two[1]}},
		{{"the top leader", 1, three[0]}, {"level 2", modelWidth, three[1]}, {"level 3", modelWidth * modelWidth, three[2]}},
	}
}

// modelRows compute what the measured costs let through on more nodes (model.go).
func modelRows(runs map[string]splitRun) (rows []row) {
	for i, levels := range modelLevels(runs) {
		name := fmt.Sprintf("1 level, leaders %d", levels[0].leaders)
		if i > 0 {
			name = fmt.Sprintf("%d levels, leaders 1", i+1)
		}
		for _, l := range levels[1:] {
			name += fmt.Sprintf("+%d", l.leaders)
		}
		for _, nodes := range []int{1000, 10000, 100000} {
			rate, bound := jobRate(levels, nodes, modelDemand)
			by := "nothing but the nodes"
			if bound != "" {
				by = bound
			}
			rows = append(rows, row{what: fmt.Sprintf("%s, %d nodes", name, nodes), kind: "computed", value: rate, unit: "jobs/s", base: float64(nodes) * modelDemand,
				baseWhat: "room on the nodes; bound by " + by})
		}
		nodes, rate, bound := saturation(levels, modelDemand)
		rows = append(rows, row{what: name + ", saturated from", kind: "computed", value: float64(nodes), unit: "nodes", baseWhat: fmt.Sprintf("bound by %s, at %.0f jobs/s", bound, rate)})
	}
	return rows
}

// splitNote is printed below the table.
var splitNote = fmt.Sprintf(`mock, real: measured, all on this host's cores: %d brokers, each with a node, and those that branches start on their nodes. A node has %d made-up
cores, for real jobs %d. A leader's CPU is getrusage of its process during the run, its branches' leaders and its jobs not included.
computed: no job was run. Jobs of %g s on nodes of %d cores, at most %d branches a leader. jobs/s = min(room on the nodes, leaders / CPU a job of
each level); a leader has a core to itself. CPU a job is that of the mock runs above: flat, --split 4, --split 4x4 for 1, 2, 3 levels:
those of leaders with branches are by the second (reports) rather than by the job, so that at higher rates than measured they are less.
`, splitNodes, mockCores, realCores, modelJob, modelCores, modelWidth)
