package sched_test

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/sched"
	"github.com/frond-hpc/frond/sched/easy"
	"github.com/frond-hpc/frond/sched/fcfs"
	"github.com/frond-hpc/frond/sched/schedbench"
	"github.com/stretchr/testify/require"
)

func BenchmarkOneCoreMatches(b *testing.B) {
	for _, p := range []sched.Policy{easy.Policy{}, fcfs.Policy{}} {
		for _, size := range [][2]int{{100, 64}, {1000, 48}, {100000, 64}, {100, 128}} {
			for _, single := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/%dx%d/single=%v", p.Name(), size[0], size[1], single), func(b *testing.B) {
					l := schedbench.New(p, size[0], size[1])
					b.ResetTimer()
					done := 0
					for done < b.N {
						n := l.OneCore(min(5000, b.N-done), single)
						if n == 0 {
							b.Fatal("nothing started")
						}
						done += n
					}
					b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "matches/s")
				})
			}
		}
	}
}

// BenchmarkOneCoreFreed frees one core of a full cluster under a million pending elements, which then starts one.
func BenchmarkOneCoreFreed(b *testing.B) {
	for _, single := range []bool{false, true} {
		b.Run(fmt.Sprintf("single=%v", single), func(b *testing.B) {
			l := schedbench.New(easy.Policy{}, 1000, 48)
			req := request(0, 1, 1)
			for range 10 {
				if single {
					for range 100000 {
						l.Submit(req, 0, 1)
					}
				} else {
					l.Submit(req, 0, 100000)
				}
			}
			l.Pass()
			b.ResetTimer()
			for range b.N {
				if l.Replace() != 1 {
					l.Submit(req, 0, 100000)
				}
			}
		})
	}
}

func BenchmarkEasyPassOver10000DistinctJobs(b *testing.B) {
	l := schedbench.Queue(easy.Policy{}, 1000, 48, 10000)
	for b.Loop() {
		if l.FullPass() != 1 {
			b.Fatal("not the urgent job alone")
		}
	}
}

func BenchmarkEasyPassWith48000Running(b *testing.B) {
	l := schedbench.New(easy.Policy{}, 1000, 48)
	l.Submit(request(0, 1, 1), 500, 47000)
	l.Pass()
	l.Submit(request(1000, 1, 48), 100, 1)
	for i := range 1000 {
		l.Submit(request(0, 1, 1), float64(1000+i), 1)
	}
	for b.Loop() {
		l.Replace()
		l.Now += 1
	}
}

// cpuTime is what this process has used. Unlike the time of day it does not depend on what else the machine does.
func cpuTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestGraphOf16384Nodes holds memory and load time of a whole machine (aimed at: 50 MB, 0.2 s; floors 200 MB, 1 s).
func TestGraphOf16384Nodes(t *testing.T) {
	nodes := schedbench.Nodes(16384, 48)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := cpuTime(t)
	m := sched.New(sched.Config{Policy: easy.Policy{}})
	m.Step(0, sched.Nodes{Add: nodes})
	took := cpuTime(t) - start
	runtime.GC()
	runtime.ReadMemStats(&after)
	mb := float64(after.HeapAlloc-before.HeapAlloc) / 1e6
	t.Logf("%.1f MB, %v", mb, took)
	if mb > 50 || took > time.Second {
		t.Fatalf("%.1f MB, %v", mb, took)
	}
	runtime.KeepAlive(m)
}

// TestMemoryOfPendingSingleJobs holds what a job in the queue costs here (< 1 KB in the whole leader).
func TestMemoryOfPendingSingleJobs(t *testing.T) {
	l := schedbench.New(easy.Policy{}, 10, 48)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 100000 {
		l.Submit(request(0, 1, 1), 0, 1)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := float64(after.HeapAlloc-before.HeapAlloc) / 100000
	t.Logf("%.0f bytes a job", each)
	if each > 300 {
		t.Fatalf("%.0f bytes a job", each)
	}
	runtime.KeepAlive(l)
}
