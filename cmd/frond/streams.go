package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// watchedFile is standard output, with the first error of writing to it: a command that prints a line and does not look whether it got
// through fails at its end all the same (see env.run).
type watchedFile struct {
	*os.File
	mu  sync.Mutex
	err error
}

// Write implements io.Writer.
func (f *watchedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.note(err)
	return n, err
}

// WriteString implements io.StringWriter.
func (f *watchedFile) WriteString(s string) (int, error) { return f.Write([]byte(s)) }

// ReadFrom implements io.ReaderFrom.
func (f *watchedFile) ReadFrom(r io.Reader) (int64, error) {
	n, err := f.File.ReadFrom(r)
	f.note(err)
	return n, err
}

func (f *watchedFile) note(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

// unwritten is the first error of writing to stream; nil if there was none, or the reader has gone away: there is nobody left to tell.
func unwritten(stream any) error {
	f, ok := stream.(*watchedFile)
	if !ok {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(f.err, syscall.EPIPE) {
		return nil
	}
	return f.err
}

// asFile is stream as the file that it is; nil if it is none.
func asFile(stream any) *os.File {
	switch f := stream.(type) {
	case *os.File:
		return f
	case *watchedFile:
		return f.File
	}
	return nil
}

// mustSay are options that mean nothing when they are empty. In a script an empty value is a variable that is not set, and without the
// option the job would be another than was meant, or the instance one without a state.
var mustSay = []string{"ntasks", "nodes", "cores-per-task", "gpus-per-task", "cores", "tasks-per-node", "tasks-per-core", "gpus-per-node", "nslots",
	"cores-per-slot", "gpus-per-slot", "mem", "time-limit", "min-time", "urgency", "retries", "max-fails", "statedir"}

// checkSaid refuses options of mustSay that are given and empty. lookup gives an option's value and whether the command line has it.
func checkSaid(lookup func(name string) (value string, given bool)) error {
	for _, name := range mustSay {
		if v, given := lookup(name); given && v == "" {
			return fmt.Errorf("--%s: the value is empty", name)
		}
	}
	return nil
}
