package outer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhenAnAllocationEnds(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	now := time.Date(2026, 11, 26, 1, 30, 0, 0, berlin)
	rows := []struct {
		name, kind, id, answer string
		left                   time.Duration // 0 = no limit
	}{
		{"Slurm", "slurm", "7", "JobId=7 JobName=x UserId=root(0) RunTime=00:30:00 TimeLimit=01:00:00 TimeMin=N/A SubmitTime=2026-11-26T01:00:00 EndTime=2026-11-26T02:00:00 Deadline=N/A\n", 30 * time.Minute},
		{"of an array the record of this job", "slurm", "9", "JobId=8 ArrayJobId=9 TimeLimit=01:00:00 EndTime=2026-11-26T03:00:00\nJobId=9 ArrayJobId=9 TimeLimit=1-00:00:00 EndTime=2026-11-27T01:30:00\n", 24 * time.Hour},
		{"Slurm without limit", "slurm", "7", "JobId=7 TimeLimit=UNLIMITED EndTime=2027-11-26T01:00:00", 0},
		{"LSF", "lsf", "7", "1:20 L\n", 80 * time.Minute},
		{"LSF without limit", "lsf", "7", "-\n", 0},
		{"an estimate of LSF ends nothing", "lsf", "7", "0:20 E\n", 0},
		{"PBS Professional", "pbs", "7.s", "Job Id: 7.s\n    Resource_List.walltime = 02:00:00\n    resources_used.walltime = 00:10:00\n    stime = Thu Nov 26 01:00:00 2026\n", 90 * time.Minute},
		{"Torque", "pbs", "7.s", "Job Id: 7.s\n    Resource_List.walltime = 02:00:00\n    start_time = Thu Nov 26 01:00:00 2026\n", 90 * time.Minute},
		{"PBS with what is used alone", "pbs", "7.s", "Job Id: 7.s\n    Resource_List.walltime = 02:00:00\n    resources_used.walltime = 00:10:00\n", 110 * time.Minute},
		{"PBS without limit", "pbs", "7.s", "Job Id: 7.s\n    Resource_List.ncpus = 4\n", 0},
		{"SGE", "sge", "7", "<CE_name>h_rt</CE_name><CE_doubleval>3600.000</CE_doubleval><CE_name>mem</CE_name><CE_doubleval>1</CE_doubleval><JAT_task_number>1</JAT_task_number><JAT_start_time>1795651200</JAT_start_time>", 30 * time.Minute},
		{"SGE, a task of an array", "sge", "7.2", "<CE_name>h_rt</CE_name><CE_doubleval>3600</CE_doubleval><JAT_task_number>1</JAT_task_number><JAT_start_time>1795650000</JAT_start_time><JAT_task_number>2</JAT_task_number><JAT_start_time>1795651200</JAT_start_time>", 30 * time.Minute},
		{"SGE without limit", "sge", "7", "<JAT_task_number>1</JAT_task_number><JAT_start_time>1795651200</JAT_start_time>", 0},
		{"Flux", "flux", "f2", "120\n", 2 * time.Minute},
		{"Frond without limit", "frond", "f2", "4294967295\n", 0},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			a := &Allocation{Kind: r.kind, ID: r.id}
			require.NotEmpty(t, a.EndQuery())
			end, err := a.ParseEnd(r.answer, now, berlin)
			require.NoError(t, err)
			if r.left == 0 {
				require.Zero(t, end)
				return
			}
			require.Equal(t, r.left, end.At.Sub(now))
			require.Positive(t, end.Grain)
		})
	}
	for kind, answer := range map[string]string{"slurm": "slurm_load_jobs error", "lsf": "soon L", "pbs": "qstat: Unknown Job Id", "sge": "<CE_name>h_rt</CE_name><CE_doubleval>5</CE_doubleval>", "flux": "error"} {
		_, err := (&Allocation{Kind: kind, ID: "7"}).ParseEnd(answer, now, berlin)
		require.Error(t, err, kind)
	}
}
