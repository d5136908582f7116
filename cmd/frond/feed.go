package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"golang.org/x/sys/unix"
)

// feeder passes standard input on to tasks of a job.
type feeder struct {
	client *client.Client
	id     jobspec.ID
	tasks  []int // task ranks; -1 = all
}

// feed passes in on until its end, which it passes on too. It returns when the job no longer takes input. Nobody can end a read
// from a terminal, so the goroutine of feed may outlive the command's work by the life of the process.
func (f *feeder) feed(ctx context.Context, in io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
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
		_, err := client.Call(ctx, f.client, api.Input, api.InputReq{ID: f.id, Task: t, Data: data, EOF: eof})
		errs = errors.Join(errs, err)
	}
	return errs
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
