package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"golang.org/x/sys/unix"
)

// feeder passes standard input on to tasks of a job.
type feeder struct {
	client *client.Client
	id     jobspec.ID
	tasks  []int // task ranks; -1 = all
	rest   bool  // the other tasks get no input from anyone: end theirs
}

// errLeft ends a feed without ending the task's input.
var errLeft = errors.New("the job was left alone")

// feed passes in on until its end, which it passes on too. It returns when the job no longer takes input. Nobody can end a read
// from a terminal, so the goroutine of feed may outlive the command's work by the life of the process.
func (f *feeder) feed(ctx context.Context, in io.Reader) {
	buf := make([]byte, 64<<10)
	if len(f.tasks) == 1 && f.tasks[0] >= 0 && f.rest { // the others read nothing: they must not wait for it
		if f.input(ctx, api.InputReq{ID: f.id, Task: -2 - f.tasks[0], EOF: true}) != nil {
			return
		}
	}
	for {
		n, err := in.Read(buf)
		if errors.Is(err, errLeft) {
			return
		}
		end := err != nil
		if n > 0 || end {
			if f.send(ctx, append([]byte(nil), buf[:n]...), end) != nil {
				return
			}
		}
		if end {
			return
		}
	}
}

func (f *feeder) send(ctx context.Context, data []byte, eof bool) error {
	var errs error
	for _, t := range f.tasks {
		errs = errors.Join(errs, f.input(ctx, api.InputReq{ID: f.id, Task: t, Data: data, EOF: eof}))
	}
	return errs
}

// resize tells the terminals of the tasks their size.
func (f *feeder) resize(ctx context.Context, rows, cols int) error {
	var errs error
	for _, t := range f.tasks {
		errs = errors.Join(errs, f.input(ctx, api.InputReq{ID: f.id, Task: t, Rows: rows, Cols: cols}))
	}
	return errs
}

// inputPause is how soon a job that does not run yet is tried again; it grows to inputMost.
const (
	inputPause = 20 * time.Millisecond
	inputMost  = time.Second
)

// input sends one piece. A job that waits for its resources, or for its next attempt, cannot take it yet.
func (f *feeder) input(ctx context.Context, req api.InputReq) error {
	for pause := inputPause; ; pause = min(2*pause, inputMost) {
		_, err := client.Call(ctx, f.client, api.Input, req)
		var told *wire.Error
		if !errors.As(err, &told) || told.Code != wire.Busy {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// usableInput is what to read standard input from: an empty reader where there is none, nil for a terminal of which this process
// is not in the foreground (reading would stop it).
func (e *env) usableInput() io.Reader {
	if e.stdin == nil {
		return eofReader{}
	}
	f, ok := e.stdin.(*os.File)
	if !ok {
		return e.stdin
	}
	if fg, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP); err == nil && fg != unix.Getpgrp() {
		return nil
	}
	return e.stdin
}

// eofReader is at its end.
type eofReader struct{}

func (eofReader) Read([]byte) (int, error) { return 0, io.EOF }
