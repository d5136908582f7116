package jobspec

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseQueues(t *testing.T) {
	qs, err := ParseQueues([]string{"debug:default,requires=fast,limit.duration=30m,limit.size.max.nnodes=2", "batch:limits.job-size.min.ncores=4,defaults.duration=1h,policy.limits.job-size.max.ngpus=-1"})
	require.NoError(t, err)
	require.Equal(t, []Queue{{Name: "debug", Default: true, Requires: []string{"fast"}, Limit: 1800, Max: Size{Nodes: 2}},
		{Name: "batch", DefaultDuration: 3600, Min: Size{Cores: 4}}}, qs)
	qs, err = ParseQueues([]string{"only"})
	require.NoError(t, err)
	require.True(t, qs[0].Default, "a sole queue is the default")
	for text, want := range map[string]string{
		"":                               "a name of 1 to 64",
		"a b":                            "a name may hold",
		"a:speed=3":                      "unknown key",
		"a:limits.duration=soon":         "is not a duration",
		"a:limits.job-size.max.cpus=3":   "must be nnodes",
		"a:limits.job-size.max.ncores=x": "must be nnodes",
		"a:requires":                     "a property is missing",
		"a:default=maybe":                "takes no value",
	} {
		_, err := ParseQueues([]string{text})
		require.ErrorContains(t, err, want, text)
	}
	_, err = ParseQueues([]string{"a", "a"})
	require.ErrorContains(t, err, "twice")
	_, err = ParseQueues([]string{"a:default", "b:default"})
	require.ErrorContains(t, err, "one can be")
}

func TestAQueueChecksAndCompletesJobs(t *testing.T) {
	q, err := ParseQueue("debug:requires=fast,limits.duration=30m,limits.job-size.max.nnodes=2,limits.job-size.max.ncores=8,limits.job-size.min.ncores=2")
	require.NoError(t, err)
	job := func(o Options) *Jobspec {
		o.Command = []string{"x"}
		j, err := Build(o)
		require.NoError(t, err)
		return j
	}
	require.ErrorContains(t, q.Check(job(Options{NTasks: 2})), "requested duration (unlimited) exceeds the limit of queue debug, 30m")
	require.ErrorContains(t, q.Check(job(Options{NTasks: 2, TimeLimit: "31"})), "requested duration (31m)")
	require.ErrorContains(t, q.Check(job(Options{NTasks: 3, Nodes: 3, TimeLimit: "5"})), "requested nnodes (3) exceeds the limit of queue debug, 2")
	require.ErrorContains(t, q.Check(job(Options{NTasks: 3, CoresPerTask: 3, TimeLimit: "5"})), "requested ncores (9)")
	require.ErrorContains(t, q.Check(job(Options{NTasks: 1, TimeLimit: "5"})), "requested ncores (1) is less than queue debug takes, 2")
	require.NoError(t, q.Check(job(Options{NTasks: 2, TimeLimit: "5"})))
	j, err := q.Apply(job(Options{NTasks: 2, TimeLimit: "5", Requires: []string{"gpu"}}))
	require.NoError(t, err)
	require.Equal(t, "debug", j.Queue)
	require.Equal(t, []string{"fast", "gpu"}, j.Constraint.Names)
	short, err := ParseQueue("short:defaults.duration=2m")
	require.NoError(t, err)
	j, err = short.Apply(job(Options{}))
	require.NoError(t, err)
	require.Equal(t, 120.0, j.Duration)
}
