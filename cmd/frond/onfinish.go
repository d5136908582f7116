package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
)

// maxHooked is how many items --on-finish may wait for: the dependencies that one job may have.
const maxHooked = 1024

// addFinish appends the job of --on-finish: it waits for the end of all other items of the batch, and is submitted in the same request.
func (b *batch) addFinish(o *submitOptions, environ []string) error {
	switch {
	case !o.hooked:
		return nil
	case o.onFinish == "":
		return errors.New("--on-finish: the command is empty")
	case len(b.items) > maxHooked:
		return fmt.Errorf("--on-finish: the options make %d different submissions; it can wait for %d", len(b.items), maxHooked)
	}
	hook := &submitOptions{command: []string{"/bin/sh", "-c", o.onFinish}, name: b.names[0] + ".on-finish", queue: o.queue, bank: o.bank, cwd: o.cwd,
		env: o.env, rlimit: o.rlimit, rerun: o.rerun, dryRun: o.dryRun}
	for i := range b.items {
		hook.dependency = append(hook.dependency, "afterany:@"+strconv.Itoa(i+1))
	}
	if err := b.add(hook, environ, api.SubmitItem{}, nil); err != nil {
		return fmt.Errorf("--on-finish: %w", err)
	}
	b.finish = true
	return nil
}

// jobs are the ids of what was asked for, without the job of --on-finish.
func (b *batch) jobs(ids []jobspec.ID) []jobspec.ID {
	if b.finish {
		return ids[:len(ids)-1]
	}
	return ids
}

// hookValue is the flag --on-finish: an empty command is not the same as none.
type hookValue struct{ o *submitOptions }

// Set implements pflag.Value.
func (h *hookValue) Set(s string) error {
	h.o.onFinish, h.o.hooked = s, true
	return nil
}
func (h *hookValue) String() string { return "" }

// Type implements pflag.Value.
func (h *hookValue) Type() string { return "string" }
