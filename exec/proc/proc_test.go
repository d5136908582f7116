package proc

import (
	"fmt"
	"os"
	exec2 "os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/exec/exectest"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
	"github.com/stretchr/testify/require"
)

func script(id exec.RunID, n int, text string, change ...func(*exec.Job)) *exec.Job {
	j := exectest.Job(id, exectest.Command{Argv: []string{"sh", "-c", text}}, n)
	for _, c := range change {
		c(j)
	}
	return j
}

func watched(j *exec.Job) { j.Watched = true }

// run runs jobs to their end and returns what came.
func (s *subject) run(jobs ...*exec.Job) []exec.TaskEvent {
	n := 0
	for _, j := range jobs {
		n += j.Parts[0].NTasks
	}
	s.mu.Lock()
	s.ev = nil
	s.mu.Unlock()
	s.Do(exec.Launch{Jobs: jobs})
	return s.Wait(exectest.Ended(n))
}

// text is the output of one task.
func text(events []exec.TaskEvent, task int, stream uint8) string {
	var b strings.Builder
	for _, ev := range events {
		if ev.Kind == exec.TaskOutput && ev.Task == task && ev.Stream == stream {
			b.Write(ev.Data)
		}
	}
	return b.String()
}

func last(events []exec.TaskEvent) exec.TaskEvent { return events[len(events)-1] }

func TestTasksGetTheirEnvironment(t *testing.T) {
	s := open(t, func(c *Config) {
		c.JobPath = "/ƒA"
		c.Env = []string{"FROND_OUTER_JOBID=77"}
		c.Nodes[0].GPUs = resource.MaskOf(0, 1)
	})
	j := script(1, 2, "env | sort", func(j *exec.Job) {
		j.Array, j.Index, j.Size, j.CC, j.Ref.Attempt = 5, 2, 4, "c", 3
		j.NTasks, j.NNodes, j.Nodelist = 6, 2, "n[0-1]"
		j.Parts[0].FirstTask, j.Parts[0].GPUs = 4, resource.MaskOf(1)
		j.Spec.Env = []byte("PATH=/usr/bin:/bin\x00FROND_JOB_ID=old\x00FROND_CERT=secret\x00PMI_RANK=9\x00SLURM_JOB_ID=1\x00SLURM_CONF=/c\x00CUDA_VISIBLE_DEVICES=all\x00MINE=a b\x00FLUX_TASK_RANK=1\x00DROP=1\x00KEPT=\x00")
		j.Spec.Job.EnvUnset = []string{"DROP"}
	})
	events := s.run(j)
	id := j.Ref.Job.String()
	env := map[string]string{}
	for line := range strings.Lines(text(events, 5, 1)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[name] = value
	}
	delete(env, "PWD")
	delete(env, "OLDPWD")
	delete(env, "SHLVL")
	delete(env, "_")
	require.DirExists(t, filepath.Dir(env["FROND_JOB_TMPDIR"]))
	delete(env, "FROND_JOB_TMPDIR")
	require.Equal(t, map[string]string{"FROND_URI": "local:///run/local", "FROND_JOB_ID": id, "FROND_JOB_ID_PATH": "/ƒA/" + id, "FROND_JOB_SIZE": "6",
		"FROND_JOB_NNODES": "2", "FROND_JOB_CC": "c", "FROND_ATTEMPT": "3", "FROND_ARRAY_ID": jobspec.ID(5).String(), "FROND_ARRAY_INDEX": "2", "FROND_ARRAY_SIZE": "4",
		"FROND_TASK_RANK": "5", "FROND_TASK_LOCAL_ID": "1", "FROND_NODELIST": "n[0-1]", "FROND_CORES": "0", "CUDA_VISIBLE_DEVICES": "1",
		"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "FROND_OUTER_JOBID": "77", "OMP_NUM_THREADS": "1", "PMI_FD": "3", "PMI_RANK": "5", "PMI_SIZE": "6", "PATH": "/usr/bin:/bin", "SLURM_CONF": "/c", "MINE": "a b", "KEPT": ""}, env)
}

func TestGPUsAreHiddenUnlessAffinityIsOff(t *testing.T) {
	s := open(t)
	require.Equal(t, "-1\n", text(s.run(script(1, 1, "echo $CUDA_VISIBLE_DEVICES")), 0, 1))
	events := s.run(script(2, 1, "echo $CUDA_VISIBLE_DEVICES", func(j *exec.Job) {
		j.Spec.Env = append(j.Spec.Env, "CUDA_VISIBLE_DEVICES=all\x00"...)
		j.Spec.Job.Shell.GPUAffinity = "off"
	}))
	require.Equal(t, "all\n", text(events, 0, 1))
	events = s.run(script(3, 2, "echo $CUDA_VISIBLE_DEVICES", func(j *exec.Job) {
		j.Parts[0].GPUs, j.Spec.Job.Shell.GPUAffinity = resource.MaskRange(0, 3), "per-task"
	}))
	require.Equal(t, "0,1\n", text(events, 0, 1))
	require.Equal(t, "2,3\n", text(events, 1, 1))
}

func TestTasksAreBoundToTheirCores(t *testing.T) {
	var cpus []int
	var set [16]uint64
	syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, 128, uintptr(ptr(&set)))
	for i := range 1024 {
		if set[i/64]>>(i%64)&1 == 1 {
			cpus = append(cpus, i)
		}
	}
	if len(cpus) < 2 {
		t.Skip("SKIP: needs two cpus")
	}
	s := open(t, func(c *Config) { c.Nodes[0].Cores, c.Nodes[0].CPUs = resource.MaskOf(3, 7), cpus[:2] })
	allowed := "sed -n 's/Cpus_allowed_list:\\t//p' /proc/self/status"
	part := func(m resource.Mask, how string) func(*exec.Job) {
		return func(j *exec.Job) { j.Parts[0].Cores, j.Spec.Job.Shell.CPUAffinity = m, how }
	}
	require.Equal(t, fmt.Sprintln(cpus[1]), text(s.run(script(1, 1, allowed, part(resource.MaskOf(7), "on"))), 0, 1))
	require.NotEqual(t, fmt.Sprintln(cpus[1]), text(s.run(script(2, 1, allowed, part(resource.MaskOf(7), "off"))), 0, 1))
	events := s.run(script(3, 2, allowed, part(resource.MaskOf(3, 7), "per-task")))
	require.Equal(t, fmt.Sprintln(cpus[0]), text(events, 0, 1))
	require.Equal(t, fmt.Sprintln(cpus[1]), text(events, 1, 1))
	events = s.run(script(4, 3, allowed, part(resource.MaskOf(3, 7), fmt.Sprintf("map:%d;%d", cpus[1], cpus[0]))))
	require.Equal(t, fmt.Sprintln(cpus[1]), text(events, 0, 1))
	require.Equal(t, fmt.Sprintln(cpus[0]), text(events, 1, 1))
	require.Equal(t, fmt.Sprintf("%d-%d\n", cpus[0], cpus[1]), text(events, 2, 1), "the map does not name the third")
}

func TestShareGivesEveryTaskSomething(t *testing.T) {
	require.Equal(t, []int{4}, share([]int{4, 5}, 0, 3))
	require.Equal(t, []int{4}, share([]int{4, 5}, 1, 3))
	require.Equal(t, []int{5}, share([]int{4, 5}, 2, 3))
	require.Equal(t, []int{6, 7}, share([]int{4, 5, 6, 7}, 1, 2))
}

func TestStartFailuresAreWordedAsInFlux(t *testing.T) {
	s := open(t)
	plain := filepath.Join(t.TempDir(), "plain")
	require.NoError(t, os.WriteFile(plain, []byte("x"), 0o644))
	argv := func(a ...string) func(*exec.Job) { return func(j *exec.Job) { j.Spec.Job.Command = a } }
	for _, c := range []struct {
		name   string
		change func(*exec.Job)
		note   string
		status int
	}{
		{"no such path", argv("/no/such"), "/no/such: No such file or directory", 127 << 8},
		{"no such command", argv("no-such-command", "x"), "no-such-command: No such file or directory", 127 << 8},
		{"not executable", argv(plain), plain + ": Permission denied", 126 << 8},
		{"no such directory", func(j *exec.Job) { j.Spec.Job.Cwd = "/no/where" }, "working directory /no/where: No such file or directory", 1 << 8},
		{"no such input", func(j *exec.Job) { j.Spec.Job.Shell.Stdin = "no/input" }, "input file /no/input: No such file or directory", 1 << 8},
		{"no such output directory", func(j *exec.Job) { j.Spec.Job.Shell.Stdout.Path = "/no/out" }, "output file /no/out: No such file or directory", 1 << 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			ev := last(s.run(script(1, 1, "true", c.change)))
			require.Equal(t, "task 0 (host n0): start failed: "+c.note, ev.Note)
			require.Equal(t, c.status, ev.Status)
			require.Zero(t, ev.Start)
		})
	}
	ev := s.run(script(2, 3, "true", func(j *exec.Job) { j.Spec.Job.Shell.Stdin = "/no/input" }))
	require.Len(t, ev, 3, "each task ends, once")
}

func TestOutputGoesToTemplatedFiles(t *testing.T) {
	s := open(t)
	dir := t.TempDir()
	files := func(out string, label bool, rest ...func(*exec.Job)) func(*exec.Job) {
		return func(j *exec.Job) {
			j.Spec.Job.Cwd = dir
			j.Spec.Job.Name = "nm"
			sh := &j.Spec.Job.Shell
			sh.Stdout = jobspec.Output{Path: out, Label: label}
			sh.Stderr = sh.Stdout
			j.Index, j.CC = 7, "cc1"
			for _, r := range rest {
				r(j)
			}
		}
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(b)
	}
	id := jobspec.ID(1).String()
	events := s.run(script(1, 1, "echo out; echo err >&2", files("a-{{id}}-{{id.dec}}-{{index}}-{{name}}-{cc}-{{node.name}}-{{nope}}.txt", false)))
	require.Empty(t, text(events, 0, 1)+text(events, 0, 2))
	require.Equal(t, "out\nerr\n", read("a-"+id+"-1-7-nm-cc1-n0-{{nope}}.txt"))

	s.run(script(2, 3, `echo "I am $FROND_TASK_RANK"; printf partial`, files("t{{task.rank}}", false)))
	require.Equal(t, "I am 2\npartial", read("t2"))

	s.run(script(3, 3, `echo "I am $FROND_TASK_RANK"; printf partial`, files("all", true)))
	lines := strings.Split(strings.TrimSpace(read("all")), "\n")
	slices.Sort(lines)
	require.Equal(t, []string{"0: I am 0", "0: partial", "1: I am 1", "1: partial", "2: I am 2", "2: partial"}, lines)

	s.run(script(4, 1, "echo new", files("all", false)))
	require.Equal(t, "new\n", read("all"), "truncated")
	s.run(script(5, 1, "echo more", files("all", false, func(j *exec.Job) { j.Spec.Job.Shell.Stdout.Append, j.Spec.Job.Shell.Stderr.Append = true, true })))
	require.Equal(t, "new\nmore\n", read("all"))
	s.run(script(6, 1, "echo node", files("all", false, func(j *exec.Job) { j.Parts[0].NodeID = 1 })))
	require.Equal(t, "new\nmore\nnode\n", read("all"), "only the first node truncates a shared file")
}

func TestCommandsAreExpanded(t *testing.T) {
	s := open(t)
	events := s.run(script(1, 2, "echo {cc} {{cc}} {{array.dec}} {{size}} {{nnodes}} {{taskid}} {{task.localid}} {{node.cores}} {x} {{ id }}",
		func(j *exec.Job) { j.CC, j.Array = "v w", 9 }))
	require.Equal(t, "v w v w 9 2 1 1 1 0 {x} "+jobspec.ID(1).String()+"\n", text(events, 1, 1))
}

func TestStandardInput(t *testing.T) {
	s := open(t)
	require.Equal(t, "0\n", text(s.run(script(1, 1, "wc -c")), 0, 1), "/dev/null by default")
	file := filepath.Join(t.TempDir(), "in")
	require.NoError(t, os.WriteFile(file, []byte("content"), 0o600))
	require.Equal(t, "content", text(s.run(script(2, 1, "cat", func(j *exec.Job) { j.Spec.Job.Shell.Stdin = file })), 0, 1))

	s.ev = nil
	s.Do(exec.Launch{Jobs: []*exec.Job{script(3, 2, "cat", watched)}})
	s.Do(exec.Feed{Run: 3, Task: -1, Data: []byte("to all\n")})
	s.Do(exec.Feed{Run: 3, Task: 1, Data: []byte("to one\n")})
	s.Do(exec.Feed{Run: 3, Task: -1, EOF: true})
	events := s.Wait(exectest.Ended(2))
	require.Equal(t, "to all\n", text(events, 0, 1))
	require.Equal(t, "to all\nto one\n", text(events, 1, 1))

	s.ev = nil
	s.Do(exec.Launch{Jobs: []*exec.Job{script(4, 1, "sleep 0.1", watched)}})
	s.Do(exec.Feed{Run: 4, Task: 0, Data: make([]byte, 1<<20)})
	require.Equal(t, 0, last(s.Wait(exectest.Ended(1))).Status, "input that nobody reads holds nothing up")
}

func TestWatchedOutputComesAsItIsWritten(t *testing.T) {
	for name, change := range map[string]func(*exec.Job){
		"watched through a pipe": watched,
		"unbuffered, the same":   func(j *exec.Job) { j.Spec.Job.Shell.Unbuffered = true },
		"unwatched from a spool": func(*exec.Job) {},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			s.Do(exec.Launch{Jobs: []*exec.Job{script(1, 1, "echo first; sleep 1000", change)}})
			s.Wait(func(ev []exec.TaskEvent) bool { return text(ev, 0, 1) == "first\n" })
			s.Do(exec.Signal{Run: 1, Sig: 9})
			s.Wait(exectest.Ended(1))
		})
	}
}

func TestBigOutputArrivesWhole(t *testing.T) {
	const size = 100 << 20
	for name, change := range map[string]func(*exec.Job){"spool": func(*exec.Job) {}, "pipe": watched} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			events := s.run(script(1, 1, fmt.Sprintf("yes 0123456789 | head -c %d; echo end >&2", size), change))
			require.Equal(t, "end\n", text(events, 0, 2))
			out := text(events, 0, 1)
			require.Len(t, out, size)
			require.Equal(t, strings.Repeat("0123456789\n", 1000), out[:11000])
			require.True(t, strings.HasPrefix("0123456789\n", out[size-size%11:]))
		})
	}
}

func TestAWriterThatIsFarAheadIsStopped(t *testing.T) {
	s := open(t)
	s.Do(exec.Flow{Paused: true})
	s.Do(exec.Launch{Jobs: []*exec.Job{script(1, 1, "while :; do head -c 4194304 /dev/zero; sleep 0.05; done")}})
	state := func() (stopped bool, size int64) {
		s.d.mu.Lock()
		defer s.d.mu.Unlock()
		for sl := range s.d.slots {
			st, err := sl.spool[0].file.Stat()
			require.NoError(t, err)
			return sl.mu.TryLock() && unlockAfter(sl, func() bool { return sl.stopped }), st.Size()
		}
		return false, 0
	}
	require.Eventually(t, func() bool { stopped, _ := state(); return stopped }, time.Minute, 10*time.Millisecond)
	_, before := state()
	require.Greater(t, before, int64(maxUnread))
	time.Sleep(300 * time.Millisecond)
	_, after := state()
	require.Less(t, after-before, int64(8<<20), "it does not go on")
	s.Do(exec.Flow{Paused: false})
	s.Wait(func(ev []exec.TaskEvent) bool { return len(text(ev, 0, 1)) > int(before)+(8<<20) })
	s.Do(exec.Signal{Run: 1, Sig: 15})
	require.Equal(t, 15, last(s.Wait(exectest.Ended(1))).Status)
}

func unlockAfter(s *slot, f func() bool) bool {
	defer s.mu.Unlock()
	return f()
}

func TestAStoppedTaskDiesOfTerm(t *testing.T) {
	s := open(t)
	s.Do(exec.Flow{Paused: true})
	s.Do(exec.Launch{Jobs: []*exec.Job{script(1, 1, "head -c 40000000 /dev/zero; sleep 1000")}})
	require.Eventually(t, func() bool {
		s.d.mu.Lock()
		defer s.d.mu.Unlock()
		for sl := range s.d.slots {
			return sl.mu.TryLock() && unlockAfter(sl, func() bool { return sl.stopped })
		}
		return false
	}, time.Minute, 10*time.Millisecond)
	s.Do(exec.Signal{Run: 1, Sig: 15})
	time.Sleep(100 * time.Millisecond)
	s.Do(exec.Flow{Paused: false})
	require.Equal(t, 15, last(s.Wait(exectest.Ended(1))).Status)
}

func TestATaskMayTruncateItsOutput(t *testing.T) {
	s := open(t)
	events := s.run(script(1, 1, "echo a; sleep 0.3; echo bb > /dev/stdout; sleep 0.3; echo c"))
	require.Contains(t, text(events, 0, 1), "c\n")
	require.Equal(t, 0, last(events).Status)
	require.Equal(t, "next\n", text(s.run(script(2, 1, "echo next")), 0, 1), "the next task of the slot starts afresh")
}

func TestEachJobHasATemporaryDirectoryOfItsOwn(t *testing.T) {
	s := open(t)
	for id := range exec.RunID(3) {
		events := s.run(script(id+1, 1, `ls -A $FROND_JOB_TMPDIR; mkdir -p $FROND_JOB_TMPDIR/d/e; echo x > $FROND_JOB_TMPDIR/d/f; chmod 0 $FROND_JOB_TMPDIR/d; test -d $FROND_JOB_TMPDIR`))
		require.Empty(t, text(events, 0, 1), "nothing is left of the one before")
		require.Equal(t, 0, last(events).Status)
	}
	s.run(script(9, 1, `rm -rf $FROND_JOB_TMPDIR`))
	require.Equal(t, 0, last(s.run(script(10, 1, "test -d $FROND_JOB_TMPDIR"))).Status)
	events := s.run(script(11, 2, "touch $FROND_JOB_TMPDIR/$FROND_TASK_RANK; while ! test -e $FROND_JOB_TMPDIR/1 -a -e $FROND_JOB_TMPDIR/0; do sleep 0.01; done; echo $FROND_JOB_TMPDIR"))
	require.Equal(t, text(events, 0, 1), text(events, 1, 1), "tasks share it")
	require.NoDirExists(t, strings.TrimSpace(text(events, 0, 1)))
}

func TestAKilledSpawnerEndsItsTask(t *testing.T) {
	s := open(t)
	s.Do(exec.Launch{Jobs: []*exec.Job{script(1, 1, "echo $$ $PPID; sleep 1000")}})
	events := s.Wait(func(ev []exec.TaskEvent) bool { return strings.HasSuffix(text(ev, 0, 1), "\n") })
	var task, sp int
	fmt.Sscan(text(events, 0, 1), &task, &sp)
	require.NoError(t, syscall.Kill(sp, syscall.SIGKILL))
	ev := last(s.Wait(exectest.Ended(1)))
	require.Equal(t, 9, ev.Status)
	require.Contains(t, ev.Note, "spawner was killed")
	require.Eventually(t, func() bool { return syscall.Kill(task, 0) != nil }, time.Minute, time.Millisecond)
	require.Equal(t, 0, last(s.run(script(2, 1, "true"))).Status)
}

func TestIdleSpawnersEnd(t *testing.T) {
	s := open(t, func(c *Config) { c.MaxIdle = 100 * time.Millisecond })
	s.run(script(1, 4, "true"))
	require.Eventually(t, func() bool {
		s.d.mu.Lock()
		defer s.d.mu.Unlock()
		return len(s.d.slots) == 0
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, 0, last(s.run(script(2, 1, "true"))).Status)
}

func TestCloseEndsEverything(t *testing.T) {
	fds := openFDs(t)
	s := open(t)
	s.Do(exec.Launch{Jobs: []*exec.Job{script(1, 3, "echo $$; trap '' TERM; setsid sleep 1000 & echo $!; sleep 1000", watched), script(2, 1, "yes")}})
	events := s.Wait(func(ev []exec.TaskEvent) bool {
		return strings.Count(text(ev, 0, 1), "\n") >= 2 && strings.Count(text(ev, 1, 1), "\n") == 2 && strings.Count(text(ev, 2, 1), "\n") == 2
	})
	s.d.Close()
	for _, f := range strings.Fields(text(events, 1, 1) + text(events, 2, 1)) {
		pid, err := strconv.Atoi(f)
		require.NoError(t, err)
		require.Error(t, syscall.Kill(pid, 0), "pid %d", pid)
	}
	require.LessOrEqual(t, openFDs(t), fds+1)
	require.NoDirExists(t, s.d.tmp())
}

func TestLimitsAndUmask(t *testing.T) {
	s := open(t)
	events := s.run(script(1, 1, "ulimit -n; ulimit -c; umask; nice", func(j *exec.Job) {
		sh := &j.Spec.Job.Shell
		sh.RLimit, sh.Umask, sh.Nice = map[string]int64{"nofile": 99, "core": -1}, 0o77, 3
	}))
	own, err := exec2.Command("nice").Output()
	require.NoError(t, err)
	var from int
	fmt.Sscan(string(own), &from)
	lines := strings.Fields(text(events, 0, 1))
	require.Equal(t, []string{"99", "0077", strconv.Itoa(min(from+3, 19))}, []string{lines[0], lines[2], lines[3]})
}
