package store

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// pipeline commits transactions with two on their way, as a service that collects while the store writes, and waits for all.
func pipeline(b testing.TB, s *Store, n int, txn func(i int) *job.Txn) {
	slots, failed := make(chan struct{}, 2), make(chan error, n)
	for i := range n {
		slots <- struct{}{}
		s.Do(time.Time{}, &job.Commit{Txn: txn(i)}, func(_ any, err error) {
			failed <- err
			<-slots
		})
	}
	for range n {
		require.NoError(b, <-failed)
	}
}

// elements is a batch of n elements of array 1 that ended, from index lo.
func elements(lo, n int) *job.Txn {
	t := &job.Txn{Ended: make([]job.ElementRow, 0, n)}
	events := bytes.Repeat([]byte("e"), 120)
	for i := lo; i < lo+n; i++ {
		t.Ended = append(t.Ended, job.ElementRow{ID: 2 + jobspec.ID(i), Array: 1, Index: i, Result: 1, Attempt: 1, Start: 1.7e9, End: 1.7e9 + float64(i)/1e5,
			Nodelist: "node12", Ranks: "12", MaxRSS: 3000, CPU: 0.001, Events: events})
	}
	return t
}

func BenchmarkElements(b *testing.B) {
	for _, batch := range []int{1, 100, 1000, 10000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			s, _ := open(b, b.TempDir(), Options{})
			require.NoError(b, commit(s, &job.Txn{Arrays: []job.ArrayRow{{ID: 1, N: 4 << 20}}}))
			b.ResetTimer()
			pipeline(b, s, b.N, func(i int) *job.Txn { return elements(i*batch, batch) })
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkSingles writes each job twice: its submission, and its end some batches later.
func BenchmarkSingles(b *testing.B) {
	const batch, lag = 1000, 10
	for _, o := range []Options{{}, {Temp: true}} {
		b.Run(fmt.Sprintf("temp=%v", o.Temp), func(b *testing.B) {
			s, _ := open(b, b.TempDir(), o)
			b.ResetTimer()
			pipeline(b, s, b.N, func(k int) *job.Txn {
				t := &job.Txn{LastID: jobspec.ID((k + 1) * batch)}
				if k >= lag {
					t.Ended = elements((k-lag)*batch, batch).Ended
				}
				for i := range batch {
					id := jobspec.ID(k*batch + i + 1)
					t.Arrays = append(t.Arrays, job.ArrayRow{ID: id, N: 1, Spec: 1, Env: 1, Name: "true", Urgency: 16, Token: fmt.Sprintf("0123456789abcdef%x/0", id), Submit: 1.7e9})
				}
				for i := range t.Ended {
					t.Ended[i].ID--
					t.Ended[i].Array, t.Ended[i].Index = t.Ended[i].ID, 0
					t.Hi = append(t.Hi, job.HiRow{Array: t.Ended[i].ID + lag*batch/2, Hi: 1})
				}
				return t
			})
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

// BenchmarkOutput writes one piece of output for each of 1,000 jobs a commit.
func BenchmarkOutput(b *testing.B) {
	const batch = 1000
	s, _ := open(b, b.TempDir(), Options{})
	data := bytes.Repeat([]byte("o"), 100)
	b.ResetTimer()
	pipeline(b, s, b.N, func(k int) *job.Txn {
		t := &job.Txn{}
		for i := range batch {
			t.Output = append(t.Output, job.OutputRow{ID: jobspec.ID(k*batch + i + 1), Attempt: 1, Stream: 1, Data: data})
		}
		return t
	})
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "pieces/s")
}

// BenchmarkMillion measures what a history of 1,000,000 elements costs: in memory, at the next start, and in queries.
func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	dir := b.TempDir()
	s, _ := open(b, dir, Options{})
	require.NoError(b, commit(s, &job.Txn{Arrays: []job.ArrayRow{{ID: 1, N: n + 10}, {ID: 1 << 30, N: 1}}}))
	pipeline(b, s, n/1000, func(i int) *job.Txn {
		t := elements(i*1000, 1000)
		t.Ended[500].Result, t.Ended[500].Status = 2, 256
		if i%100 == 0 {
			t.Ended = t.Ended[:999]
		}
		return t
	})
	rss := residentKiB()
	require.NoError(b, s.Close())
	b.Run("load", func(b *testing.B) {
		for range b.N {
			s, loaded, err := Open(dir, Options{})
			require.NoError(b, err)
			require.Len(b, loaded.Arrays[0].Finished, n/1000/100+1)
			b.StopTimer()
			s.Close()
			b.StartTimer()
		}
		b.ReportMetric(float64(rss)/1024, "MiB-rss-after-writing")
	})
	s, _ = open(b, dir, Options{})
	b.Run("newest 1000", func(b *testing.B) { benchEnded(b, s, 0, 0, 1000) })
	b.Run("newest 1000 of the array", func(b *testing.B) { benchEnded(b, s, 1, 0, 1000) })
	b.Run("all 1000 failed", func(b *testing.B) { benchEnded(b, s, 0, 2, 1000) })
	b.Run("all", func(b *testing.B) { benchEnded(b, s, 0, 0, n) })
}

// BenchmarkPending measures the start on 1,000,000 pending single jobs.
func BenchmarkPending(b *testing.B) {
	dir := b.TempDir()
	s, _ := open(b, dir, Options{})
	pipeline(b, s, 100, func(k int) *job.Txn {
		t := &job.Txn{}
		for i := range 10000 {
			t.Arrays = append(t.Arrays, job.ArrayRow{ID: jobspec.ID(1 + k*10000 + i), N: 1, Name: "true"})
		}
		return t
	})
	require.NoError(b, s.Close())
	b.ResetTimer()
	for range b.N {
		s, loaded, err := Open(dir, Options{})
		require.NoError(b, err)
		require.Len(b, loaded.Arrays, 1_000_000)
		b.StopTimer()
		s.Close()
		b.StartTimer()
	}
}

func benchEnded(b *testing.B, s *Store, array jobspec.ID, results, limit int) {
	for range b.N {
		_, err := ask(s, func(r job.Reader) (any, error) {
			k := 0
			return nil, r.Ended(array, results, 0, 0, func(job.ElementRow) bool { k++; return k < limit })
		})
		require.NoError(b, err)
	}
}

// residentKiB is this process's resident memory.
func residentKiB() (kib int) {
	text, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fmt.Sscan(rest, &kib)
	return kib
}

// BenchmarkOpen measures what opening a new directory adds to the start of an instance.
func BenchmarkOpen(b *testing.B) {
	for _, o := range []Options{{}, {Temp: true}} {
		b.Run(fmt.Sprintf("temp=%v", o.Temp), func(b *testing.B) {
			for range b.N {
				dir := b.TempDir()
				s, _, err := Open(dir, o)
				require.NoError(b, err)
				b.StopTimer()
				s.Close()
				b.StartTimer()
			}
		})
	}
}
