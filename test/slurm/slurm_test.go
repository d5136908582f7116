package slurm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

// TestSlurm has one cluster for all.
func TestSlurm(t *testing.T) {
	c := start(t)
	for _, part := range []struct {
		name string
		test func(*testing.T, *cluster)
	}{
		{"from a batch script", fromScript},
		{"options of sbatch that srun would read too", options},
		{"from a shell of salloc", fromShell},
		{"by srun once per node", oncePerNode},
		{"by srun once per node, without success", oncePerNodeFails},
		{"check and dry-run", check},
		{"no more than was granted", granted},
		{"a node is set down", nodeDown},
		{"a node is set down, without --no-kill", nodeDownKills},
		{"the warning that a job lacks --no-kill", lacksNoKill},
		{"scancel, and on in another allocation", cancelAndRecover},
		{"the time limit, and on in the same job", timeLimit},
		{"two environments", environments},
		{"two instances in one allocation", two},
		{"the warning of an end", warned},
		{"the warning before a time limit", warnedBefore},
		{"no shared directory", unshared},
		{"the program is missing on a node", missing},
		{"an old program on a node", old},
		{"the certificate of another instance", stranger},
		{"too few ports", noPort},
		{"a home that cannot be written to", noHome},
		{"MPI", mpi},
		{"the same work as elsewhere", workload},
	} {
		t.Run(part.name, func(t *testing.T) {
			c.t = t
			part.test(t, c)
			c.clean()
		})
	}
	c.t = t
}

func fromScript(t *testing.T, c *cluster) {
	out := c.finish("script", c.batch("script", "--no-kill -N4 -n4 -c2", `frond start sh -c '
		frond resource list -s free
		frond overlay status
		frond submit --quiet --wait --cc=1-1000 true && frond jobs -a -n -o "{status}" | sort | uniq -c
		srun -N4 -n4 sh -c "echo own srun on \$SLURMD_NODENAME"
		squeue -h -o "squeue shows %i"
		frond run -N4 -n4 sh -c "env | grep -E ^SLURM\|^FROND_OUTER" | sort | uniq -c
		exit 5'
	echo "exit code $?"`))
	require.Contains(t, out, " n[0-3]")
	require.Regexp(t, `(?m)^3 +n3 .*online`, out)
	require.Contains(t, out, "1000 COMPLETED")
	for i := range 4 {
		require.Contains(t, out, fmt.Sprintf("own srun on n%d", i))
	}
	require.Contains(t, out, "squeue shows")
	require.Contains(t, out, "4 FROND_OUTER_JOBID=")
	require.Contains(t, out, "4 SLURM_CONF=")
	require.NotContains(t, out, " SLURM_JOB", "jobs do not see the allocation")
	require.NotContains(t, out, "SLURMD_NODENAME=")
	require.Contains(t, out, "exit code 5")
}

// options must not reach the srun that starts brokers.
func options(t *testing.T, c *cluster) {
	hosts := filepath.Join(c.dir, "hosts")
	require.NoError(t, os.WriteFile(hosts, []byte("n0\nn1\nn2\nn3\n"), 0o644))
	c.env = append(c.env, "SLURM_HOSTFILE="+hosts)
	defer func() { c.env = c.env[:len(c.env)-1] }()
	for i, opts := range []string{"-N4 --mem-per-cpu=50", "-N4 --mem=200", "-N4 --ntasks-per-node=8", "-N4 -n4 -c 2", "-N4 -n4 --distribution=arbitrary", "-N4 -n4 --export=NONE"} {
		name := fmt.Sprintf("options%d", i)
		script := "export PATH=" + os.Getenv("PATH") + "\n"
		for _, kv := range c.env { // --export=NONE takes all away
			if n, v, _ := strings.Cut(kv, "="); strings.HasPrefix(n, "FROND") || n == "PATH" || n == "SLURM_CONF" {
				script += fmt.Sprintf("export %s=%s\n", n, v)
			}
		}
		// SLURM_MEM_PER_NODE beside SLURM_MEM_PER_CPU is what makes srun fail by itself
		script += "export SLURM_MEM_PER_NODE=100 SLURM_MEM_PER_CPU=10 SLURM_GPUS_PER_TASK=1\nfrond start frond run -N4 -n4 sh -c 'echo in ${FROND_URI%/local}'"
		out := c.finish(name, c.batch(name, "--no-kill "+opts, script))
		require.Equal(t, 4, strings.Count(out, "in local:"), "sbatch %s\n%s", opts, out)
	}
}

func fromShell(t *testing.T, c *cluster) {
	out, code := c.shell(`salloc -Q --no-kill -N4 frond start sh -c 'frond resource list -s free; frond overlay status; frond run -N4 -n4 echo hello </dev/null; cat; exit 3' <<X
standard input
X`)
	require.Equal(t, 3, code, out)
	require.Contains(t, out, " n[0-3]")
	require.Equal(t, 4, strings.Count(out, "hello"))
	require.Contains(t, out, "standard input")
	require.Regexp(t, `(?m)^0 +n0 .*online`, out, "the leader is on the first node")
	require.Regexp(t, `(?m)^3 +n3 .*online`, out)

	// Signals reach the program there; nobody reading ends who writes; its environment is the shell's.
	out, code = c.shell(`salloc -Q --no-kill -N2 sh -c '
		frond start sh -c "trap \"echo interrupted; exit 9\" INT; echo \$\$ >shell-ready; while :; do sleep 0.1; done" & 
		until [ -s shell-ready ]; do sleep 0.1; done; kill -INT $!; wait $!; echo "code $?"
		SLURM_OF_MINE=x frond start sh -c "env | grep -c ^SLURM_STEP; echo on \$SLURMD_NODENAME with \$SLURM_OF_MINE\$FROND_CARRIED; srun -N2 -n2 echo own srun"
		frond start yes | head -n 1
		'`)
	require.Zero(t, code, out)
	require.Contains(t, out, "interrupted\ncode 9")
	require.Contains(t, out, "0\non n0 with x\n")
	require.Equal(t, 2, strings.Count(out, "own srun"))
	require.Contains(t, out, "y\n")

	// A terminal is one there, too.
	out, code = c.shell(`(until grep -q "on a terminal" shown; do sleep 0.1; done; echo typed; until grep -q "got typed" shown; do sleep 0.1; done) | script -qefc "salloc -Q --no-kill -N2 frond start sh -c 'test -t 0 && test -t 1 && test -t 2 && echo on a terminal; read x; echo got \$x; exit 7'" shown`)
	require.Equal(t, 7, code, out)
	require.Contains(t, out, "on a terminal\r\n")
	require.Contains(t, out, "got typed\r\n")
}

func oncePerNode(t *testing.T, c *cluster) {
	for _, opts := range []string{"-N4 -n4 --mpi=none", "-N4 -n4 --mpi=pmi2", "-N4 -n8 --mpi=none", "-N4 -n8 --mpi=pmi2"} {
		out, code := c.shell("srun " + opts + ` frond start sh -c 'echo one leader; frond resource list -s free; frond run -N4 -n4 echo hello; env | grep -c -E "SLURM_STEP|^PMI"; exit 4'`)
		require.Equal(t, 4, code, "%s\n%s", opts, out)
		require.Equal(t, 1, strings.Count(out, "one leader"), "%s: never n singletons\n%s", opts, out)
		require.Equal(t, 4, strings.Count(out, "hello"), "%s\n%s", opts, out)
		require.Contains(t, out, " n[0-3]", opts)
		require.Contains(t, out, "\n0\n", "the program is in no step")
		require.Equal(t, strings.Contains(opts, "-n8"), strings.Contains(out, "8 tasks were started on 4 nodes: one on each becomes the broker"), "%s\n%s", opts, out)
	}
	out, code := c.shell("srun -N2 -n2 --mpi=pmi2 frond start --check")
	require.Zero(t, code, out)
	require.Regexp(t, `(?m)^1 +n1 .* pmi .* tcp://`, out, "the processes become the brokers, without another step")
	out, code = c.shell("srun -N2 -n2 --mpi=pmi2 frond start --dry-run")
	require.Zero(t, code, out)
	require.Contains(t, out, "run:      nothing more: the processes that were started become the brokers")
}

// oncePerNodeFails: the other tasks end soon, and there is a reason.
func oncePerNodeFails(t *testing.T, c *cluster) {
	for _, mpi := range []string{"none", "pmi2"} {
		began := time.Now()
		out, code := c.shell("srun -N4 -n4 --mpi=" + mpi + " frond start --statedir /proc/x true")
		require.Equal(t, 1, code, out)
		require.Equal(t, 1, strings.Count(out, "frond start: --statedir:"), "task 0 says it, and no other\n%s", out)
		out, code = c.shell("srun -N4 -n4 --mpi=" + mpi + ` frond start sh -c 'kill -9 $(ps -o ppid= -p $PPID); sleep 100'`)
		require.Equal(t, 137, code, out)
		require.Less(t, time.Since(began), 50*time.Second, mpi) // nobody waits for brokers until they are given up, which takes 60 s
	}
	out, code := c.shell(`srun -N4 -n4 --mpi=none sh -c '[ $SLURM_PROCID = 0 ] || exec frond start true; kill -9 $$'`)
	require.Equal(t, 137, code, out)
	require.Equal(t, 3, strings.Count(out, "task 0 has died, or hangs"), out)

	// PMI that knows of one process where Slurm has started four is not believed.
	out, code = c.shell(`srun -N4 -n4 --mpi=pmi2 sh -c 'PMI_SIZE=1 PMI_RANK=0 frond start frond overlay status'`)
	require.Zero(t, code, out)
	require.Contains(t, out, "PMI says that 1 processes were started, the scheduler says 4: PMI is not used")
	require.Equal(t, 4, strings.Count(out, " online "), out)
}

func check(t *testing.T, c *cluster) {
	out, code := c.shell("salloc -Q --no-kill -N4 frond start --check")
	require.Zero(t, code, out)
	require.Regexp(t, `(?m)^0 +n0 .* local .* tcp://`, out)
	for i := 1; i < 4; i++ {
		require.Regexp(t, fmt.Sprintf(`(?m)^%d +n%d .* slurm .* tcp://`, i, i), out)
	}
	out, code = c.shell("salloc -Q --no-kill -N4 frond start --dry-run true")
	require.Zero(t, code, out)
	require.Contains(t, out, "shell of job")
	require.Contains(t, out, "-w n0 ")
	require.Contains(t, out, "srun -N 3 -n 3 -w 'n[1-3]'")
}

// granted: one of the nodes' cpus, and memory for it, by an option or by the site's default; gpus if there are some among it.
func granted(t *testing.T, c *cluster) {
	for _, row := range []struct{ opts, r string }{
		{"-N1 -n1 --mem-per-cpu=70", `{"core":"0"}}],"nodelist":["n0"],"starttime":0,"expiration":0},"scheduling":{"writer":"frond:memory","memory":{"0":70}}}`},
		{"-N2 -n2", `"rank":"0-1","children":{"core":"0"}}],"nodelist":["n[0-1]"],"starttime":0,"expiration":0},"scheduling":{"writer":"frond:memory","memory":{"0-1":100}}}`},
		{"-N2 -n2 --gres=gpu:1", `"rank":"0-1","children":{"core":"0","gpu":"0"}}]`},
		{"-N2 -n2 --gres=gpu:2", `"rank":"0-1","children":{"core":"0","gpu":"0-1"}}]`},
	} {
		out, code := c.shell("salloc -Q " + row.opts + " frond start frond resource R")
		require.Zero(t, code, out)
		require.Contains(t, out, row.r, "salloc %s", row.opts)
		out = c.finish("granted", c.batch("granted", row.opts, "frond start frond resource R"))
		require.Contains(t, out, row.r, "sbatch %s", row.opts)
	}
	out := c.finish("local", c.batch("local", "-N2 -n2", `frond start --launcher=local sh -c 'frond resource R; echo in $FROND_OUTER_JOBID'`))
	require.Contains(t, out, `"core":"0"}`)
	require.Contains(t, out, `"memory":{"0":100}`, "other nodes are left alone, but on this one nothing else was granted")
	require.Regexp(t, `in [0-9]+`, out)
}

// nodeDown: the instance goes on without the node if the job has --no-kill.
func nodeDown(t *testing.T, c *cluster) {
	id := c.batch("down", "--no-kill -N4 -n4", `frond start sh -c '
		echo x >down-ready
		until frond resource list -s down | grep -q " n2"; do sleep 0.1; done
		until frond overlay status | grep -q " dead "; do sleep 0.1; done
		frond run -N3 -n3 echo still here'`)
	c.await("down-ready")
	c.sh("scontrol update node=n2 state=down reason=test")
	out := c.finish("down", id)
	c.sh("scontrol update node=n2 state=resume")
	require.Contains(t, out, "on node n2) died", out)
	require.Equal(t, 3, strings.Count(out, "still here"), out)
}

// lacksNoKill: how a job was submitted is known where there is accounting, for which a sacct stands in here that knows one command line.
func lacksNoKill(t *testing.T, c *cluster) {
	require.NoError(t, os.Mkdir(filepath.Join(c.dir, "stand-in"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, "stand-in/sacct"), []byte("#!/bin/sh\necho sbatch -N2 script\n"), 0o755))
	const script = "\nfrond start sh -c 'until [ -s warned-by-now ]; do sleep 0.1; done; frond run -N2 -n2 echo hello'"
	const with, warning = "export PATH=$PWD/stand-in:$PATH", "was submitted without --no-kill: Slurm will end all of it"
	id := c.batch("lacks", "-N2 -n2", with+script)
	said := harness.Until(harness.Patience, func() bool { return strings.Contains(c.output("lacks"), warning) })
	require.True(t, said, c.output("lacks"))
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, "warned-by-now"), []byte("x"), 0o644))
	require.Equal(t, 1, strings.Count(c.finish("lacks", id), warning))
	out := c.finish("has", c.batch("has", "-N2 -n2", "#SBATCH --no-kill\n"+with+script))
	require.NotContains(t, out, warning)
	require.Contains(t, out, "hello")
	out = c.finish("unknown", c.batch("unknown", "-N2 -n2", script))
	require.NotContains(t, out, "no-kill", "without accounting nothing is known")
}

// nodeDownKills: a job without --no-kill is killed when a node is set down, and Slurm starts it again. With --statedir it goes on.
func nodeDownKills(t *testing.T, c *cluster) {
	id := c.batch("killed", "-N4 -n4 --requeue --open-mode=append", `echo "begins, restarts ${SLURM_RESTART_COUNT:-0}"
	frond start --statedir kill-state sh -c '
		if [ ! -s kill-jobs ]; then
			frond submit --cc=1-200 sh -c "sleep 0.1; echo \$FROND_JOB_CC >>$PWD/kill-ended" >kill-jobs
			while [ $(wc -l <kill-ended) -lt 50 ]; do sleep 0.05; done
			echo x >kill-ready; sleep 1000
		fi
		frond wait $(cat kill-jobs) && echo all have ended'`)
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, "kill-ended"), nil, 0o644))
	c.await("kill-ready")
	c.sh("scontrol update node=n2 state=down reason=test")
	again := harness.Until(harness.Patience, func() bool { return strings.Contains(c.sh("squeue -h -j %s -o %%T", id), "PENDING") })
	require.True(t, again, "Slurm requeues the job: %s", c.sh("scontrol show job %s; cat killed.out", id))
	c.clean()
	c.sh("scontrol update node=n2 state=resume; scontrol update job=%s starttime=now", id)
	out := c.finish("killed", id)
	require.Contains(t, out, "begins, restarts 1")
	require.Contains(t, out, "all have ended")
	text, err := os.ReadFile(filepath.Join(c.dir, "kill-ended"))
	require.NoError(t, err)
	seen := map[string]bool{}
	for line := range strings.FieldsSeq(string(text)) {
		seen[line] = true
	}
	require.Len(t, seen, 200, "no job is lost")
}

// cancelAndRecover: each job appends to a file when it ends, so that one that ran again would show. Slurm sends TERM to all processes
// that it knows, jobs of Frond too: they are not taken for failed.
func cancelAndRecover(t *testing.T, c *cluster) {
	script := `frond start --statedir state sh -c '
		if [ ! -s jobs ]; then
			frond submit --cc=1-400 sh -c "sleep 0.1; echo \$FROND_JOB_CC >>$PWD/ended" >jobs
			while [ $(wc -l <ended) -lt 50 ]; do sleep 0.05; done
			echo x >half; sleep 1000
		fi
		frond wait $(cat jobs) && echo all have ended'`
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, "ended"), nil, 0o644))
	id := c.batch("first", "--no-kill -N4 -n4", script)
	c.await("half")
	c.sh("scancel %s", id)
	out := c.finish("first", id)
	require.Contains(t, out, "jobs that have not ended stay in")
	c.clean()
	out = c.finish("second", c.batch("second", "--no-kill -N4 -n4", script))
	require.Contains(t, out, "all have ended")
	text, err := os.ReadFile(filepath.Join(c.dir, "ended"))
	require.NoError(t, err)
	seen := map[string]int{}
	for line := range strings.FieldsSeq(string(text)) {
		seen[line]++
	}
	require.Len(t, seen, 400, "no job is lost")
	again := 0
	for _, n := range seen {
		again += n - 1
	}
	require.LessOrEqual(t, again, 8, "only what had written and not yet ended may run again")
}

// two instances in one allocation are allowed; who comes second is told.
func two(t *testing.T, c *cluster) {
	out := c.finish("two", c.batch("two", "--no-kill -N4 -n4", `
		frond start --name one sh -c "frond run -N4 -n4 echo first; echo x >two-ready; until [ -s two-done ]; do sleep 0.1; done" &
		until [ -s two-ready ]; do sleep 0.1; done
		frond start --name two sh -c "frond run -N4 -n4 echo second; frond --instance one run -N4 -n4 echo first again; frond list"
		echo x >two-done; wait`))
	require.Equal(t, 4, strings.Count(out, "first\n"), out)
	require.Equal(t, 4, strings.Count(out, "second"), out)
	require.Equal(t, 4, strings.Count(out, "first again"), out)
	require.Contains(t, out, "instance one is in this allocation, too (slurm ")
	require.Regexp(t, `(?m)^one .* slurm [0-9]+`, out)
	require.Regexp(t, `(?m)^two .* slurm [0-9]+`, out)
}

// warned: USR1 goes to all that Slurm has started, as by --signal. Brokers do not end by it.
func warned(t *testing.T, c *cluster) {
	id := c.batch("warned", "--no-kill -N4 -n4", `frond start sh -c '
		echo x >warn-ready
		while [ ! -s warn-sent ]; do sleep 0.1; done
		frond run -N4 -n4 echo still here'`)
	c.await("warn-ready")
	for _, sig := range []string{"USR1", "USR2", "XCPU", "CONT"} {
		c.sh("scancel --signal=%s %s", sig, id)
	}
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, "warn-sent"), []byte("x"), 0o644))
	out := c.finish("warned", id)
	require.Equal(t, 4, strings.Count(out, "still here"), out)
}

// warnedBefore: --signal=USR1@30 goes to all tasks of steps, which is what runs on n1 to n3: the brokers live on, and their jobs hear of it.
func warnedBefore(t *testing.T, c *cluster) {
	id := c.batch("before", "--no-kill -N4 -n4 -t 1 --signal=USR1@30", `frond start sh -c '
		frond submit -N4 -n4 sh -c "trap \"echo warned >>$PWD/before-warned\" USR1; sleep 1000 & while :; do wait; done" >before-job
		until [ $(cat before-warned 2>/dev/null | wc -l) -ge 3 ]; do sleep 0.1; done
		frond cancel --all; frond overlay status; frond run -N4 -n4 echo still here'`)
	out := c.finish("before", id)
	require.Equal(t, 4, strings.Count(out, "still here"), out)
	require.Equal(t, 4, strings.Count(out, " online "), out)
}

func mpi(t *testing.T, c *cluster) {
	cc, err := exec.LookPath("mpicc.mpich")
	if err != nil {
		t.Skip("SKIP: needs mpicc.mpich: scripts/testdeps.sh installs it as root")
	}
	bin := filepath.Join(c.dir, "trial")
	text, err := exec.Command(cc, "-o", bin, "../mpi/testdata/trial.c").CombinedOutput()
	require.NoError(t, err, "%s", text)
	began := time.Now()
	out := c.finish("mpi", c.batch("mpi", "--no-kill -N4 -n8 --ntasks-per-node=2", "frond start frond run -N4 -n8 "+bin))
	require.Contains(t, out, "of 8:", "%v", time.Since(began))
	require.Equal(t, 8, strings.Count(out, " of 8:"), out)

	// The user's own mpirun starts its processes by srun: the brokers are in nobody's way.
	for _, launcher := range []string{"mpiexec.hydra", "mpirun.openmpi"} {
		if _, err := exec.LookPath(launcher); err != nil {
			t.Logf("without %s: scripts/testdeps.sh installs it", launcher)
			continue
		}
		run := launcher + " -n 8 -ppn 2 " + bin
		if launcher == "mpirun.openmpi" {
			run = launcher + " --allow-run-as-root -n 8 sh -c 'echo rank $OMPI_COMM_WORLD_RANK of 8: $SLURMD_NODENAME'"
		}
		require.NoError(t, os.WriteFile(filepath.Join(c.dir, "own"), []byte(run), 0o755))
		out = c.finish("mpirun", c.batch("mpirun", "--no-kill -N4 -n8 --ntasks-per-node=2", "frond start sh -c 'frond submit -N4 -n4 --quiet sleep 1000; sh ./own; frond cancel --all'"))
		require.Equal(t, 8, strings.Count(out, " of 8:"), "%s: %s", launcher, out)
	}
}
