package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
)

// instance is a running `frond start` with a client.
type instance struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	c     *client.Client
	uri   string
	ready time.Duration // from start until its program runs
}

// start runs `frond start` with these options; its program says where the instance is and waits for the end of its input.
func (b *bench) start(ctx context.Context, args ...string) (*instance, error) {
	args = append([]string{"start"}, args...)
	args = append(args, "--on-exit", "cancel", "--", "sh", "-c", "echo $FROND_URI; read x; exit 0")
	cmd := exec.CommandContext(ctx, b.frond, args...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	in := &instance{cmd: cmd, stdin: stdin, uri: strings.TrimSpace(line), ready: time.Since(began)}
	if err != nil {
		_ = cmd.Wait()
		return nil, fmt.Errorf("frond %s: no URI: %w", strings.Join(args, " "), err)
	}
	in.c, err = client.Dial(ctx, in.uri)
	return in, err
}

// usage is the CPU time of a whole instance, tasks and all, after it has ended.
func (in *instance) stop() (cpu time.Duration, err error) {
	_ = in.c.Close()
	_ = in.stdin.Close()
	if err := in.cmd.Wait(); err != nil {
		return 0, fmt.Errorf("frond start: %w", err)
	}
	ru := in.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), nil
}

// spec is a jobspec of one core; mock seconds > 0 for mock execution.
func spec(mock string, command ...string) []byte {
	o := jobspec.Options{Command: command, Cwd: "/tmp"}
	if mock != "" {
		o.Setattr = []string{"system.exec.test.run_duration=" + mock}
	}
	j, err := jobspec.Build(o)
	if err != nil {
		panic(err)
	}
	text, err := j.JSON()
	if err != nil {
		panic(err)
	}
	return text
}

// submit submits items in one request.
func (in *instance) submit(ctx context.Context, items ...api.SubmitItem) ([]jobspec.ID, error) {
	rep, err := client.Call(ctx, in.c, api.Submit, api.SubmitReq{Token: token(), Items: items, Envs: [][]byte{[]byte("PATH=/usr/bin:/bin\x00")}})
	return rep.IDs, err
}

var tokens int

func token() string {
	tokens++
	return fmt.Sprintf("%d-bench%d", time.Now().UnixMilli(), tokens)
}

// idle waits until no job is active and returns the last counts.
func (in *instance) idle(ctx context.Context) (last api.CountsRep, err error) {
	s, err := client.Open(ctx, in.c, api.Counts, api.CountsReq{Follow: true})
	if err != nil {
		return last, err
	}
	defer s.Close()
	for {
		rep, err := s.Next()
		if err == io.EOF {
			return last, nil
		}
		if err != nil {
			return last, err
		}
		last = rep
	}
}

// expect fails unless n jobs have ended well.
func expect(c api.CountsRep, n int) error {
	if c.Pending+c.Running > 0 || c.Inactive != n || c.Failed > 0 {
		return fmt.Errorf("expected %d jobs to end well, the instance says %+v", n, c)
	}
	return nil
}

func (in *instance) stats(ctx context.Context, rank int32) (api.StatsRep, error) {
	return client.Call(ctx, in.c, api.Stats, api.Empty{}, client.Rank(rank))
}
