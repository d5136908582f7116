package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/exec/pmi"
	"github.com/stretchr/testify/require"
)

// pmiServer serves n processes, and returns the environment of each.
func pmiServer(t *testing.T, n int) []*env {
	var tasks []int
	for i := range n {
		tasks = append(tasks, i)
	}
	var mu sync.Mutex
	server := pmi.New(pmi.Config{Name: "space", Size: n, Tasks: tasks})
	ours := make([]*os.File, n)
	var envs []*env
	for i := range n {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		require.NoError(t, err)
		ours[i] = os.NewFile(uintptr(fds[0]), "server")
		e, _, _ := testEnv("PMI_FD", strconv.Itoa(fds[1]), "PMI_RANK", strconv.Itoa(i), "PMI_SIZE", strconv.Itoa(n), "SLURMD_NODENAME", "n"+strconv.Itoa(i/2), "SLURM_CPUS_ON_NODE", strconv.Itoa(4+i/2))
		envs = append(envs, e)
	}
	var done sync.WaitGroup
	for i, f := range ours {
		done.Go(func() {
			defer f.Close()
			for in := bufio.NewScanner(f); in.Scan(); {
				mu.Lock()
				res := server.Line(i, in.Text())
				if res.Fence {
					server.Release(res.Pairs)
					for _, other := range ours {
						fmt.Fprint(other, pmi.Barrier)
					}
				}
				mu.Unlock()
				fmt.Fprint(f, res.Reply)
			}
		})
	}
	t.Cleanup(done.Wait)
	return envs
}

// meetCrew has all processes of a launch meet, and calls each for every one.
func meetCrew(t *testing.T, n int, each func(c *crew) error) {
	envs := pmiServer(t, n)
	errs := make(chan error, n)
	for _, e := range envs {
		go func() {
			c, err := new(startOptions).newCrew(e, n)
			if err == nil {
				err = each(c)
			}
			errs <- err
		}()
	}
	for range n {
		select {
		case err := <-errs:
			require.NoError(t, err)
		case <-time.After(time.Minute):
			require.Fail(t, "a process hangs")
		}
	}
}

func TestTheProcessesOfALaunchFindEachOther(t *testing.T) {
	ticket := string(make([]byte, 5000)) // longer than a value may be
	meetCrew(t, 6, func(c *crew) error {
		names, cpus := c.nodes()
		if fmt.Sprint(names, cpus) != "[n0 n1 n2] [4 5 6]" {
			return fmt.Errorf("%v %v", names, cpus)
		}
		if c.rank == 0 {
			return c.tell(ticket, nil)
		}
		got, err := c.hear()
		if want := map[int]string{2: ticket, 4: ticket}[c.rank]; err == nil && got != want {
			err = fmt.Errorf("process %d got %d bytes, not %d", c.rank, len(got), len(want))
		}
		return err
	})
}

func TestTheOthersHearThatThereIsNoInstance(t *testing.T) {
	meetCrew(t, 4, func(c *crew) error {
		if c.rank == 0 {
			return c.tell("", os.ErrInvalid)
		}
		if _, err := c.hear(); err != errNobody {
			return fmt.Errorf("process %d: %w", c.rank, err)
		}
		return nil
	})
}

func TestPMIIsBelievedWhereItAgreesWithTheScheduler(t *testing.T) {
	o := &startOptions{}
	e, _, _ := testEnv("PMI_FD", "9", "PMI_SIZE", "1", "PMI_RANK", "0")
	_, err := o.newCrew(e, 4)
	require.EqualError(t, err, "PMI says that 1 processes were started, the scheduler says 4: PMI is not used")
	e, _, _ = testEnv()
	_, err = o.newCrew(e, 4)
	require.Equal(t, errNoCrew(""), err)
}
