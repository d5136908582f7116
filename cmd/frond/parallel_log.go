package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/parallel"
)

// parallelLog is what is written of ended jobs (--joblog, --results), and what is known of an earlier run from it.
type parallelLog struct {
	file   *os.File // joblog; nil = none
	table  *bufio.Writer
	close_ func() error // of table
	sep    string       // of table: , or a tab; empty = JSON
	spill  *spillFile
	done   parallel.Done
	failed []parallel.LogEntry // --retry-failed: the jobs of this run
	fixed  bool                // jobs are those of failed
	local  bool                // all nodes are this host
}

// open reads an earlier run's log as far as it counts, and opens the files.
func openParallelLog(p *parallelPlan, e *env, spill *spillFile) (*parallelLog, error) {
	l := &parallelLog{spill: spill}
	o := p.o
	if o.jobLog != "" {
		if err := l.openJobLog(o); err != nil {
			return nil, err
		}
	}
	return l, l.openTable(p, e)
}

func (l *parallelLog) openJobLog(o *parallelOptions) error {
	name, appends := strings.CutPrefix(o.jobLog, "+")
	again := o.resume || o.resumeFailed || o.retryFailed
	if again {
		if err := l.readJobLog(name, o); err != nil {
			return fmt.Errorf("--joblog %s: %w", name, err)
		}
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if !appends && !again {
		flags |= os.O_TRUNC
	}
	var err error
	if l.file, err = os.OpenFile(name, flags, 0o666); err != nil {
		return fmt.Errorf("--joblog: %w", err)
	}
	if st, err := l.file.Stat(); err == nil && st.Size() == 0 || err == nil && !st.Mode().IsRegular() {
		_, err = l.file.WriteString(parallel.LogHeader)
		return err
	}
	return nil
}

func (l *parallelLog) readJobLog(name string, o *parallelOptions) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) && !o.retryFailed {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	last := map[int]parallel.LogEntry{}
	var order []int
	err = parallel.ReadLog(f, func(e *parallel.LogEntry) {
		l.done.Note(e, o.resumeFailed)
		if o.retryFailed {
			if _, ok := last[e.Seq]; !ok {
				order = append(order, e.Seq)
			}
			last[e.Seq] = *e
		}
	})
	for _, seq := range order {
		if e := last[seq]; e.Failed() {
			l.failed = append(l.failed, e)
		}
	}
	l.fixed = o.retryFailed
	return err
}

// openTable opens the file of --results that is one table.
func (l *parallelLog) openTable(p *parallelPlan, e *env) error {
	name := p.o.results
	ext := filepath.Ext(name)
	if p.results == nil || ext != ".csv" && ext != ".tsv" && ext != ".json" {
		return nil
	}
	l.sep = map[string]string{".csv": ",", ".tsv": "\t"}[ext]
	out, done := e.stdout, func() error { return nil }
	if strings.TrimSuffix(name, ext) != "-" {
		f, err := os.Create(name)
		if err != nil {
			return fmt.Errorf("--results: %w", err)
		}
		out, done = f, f.Close
	}
	l.table, l.close_ = bufio.NewWriter(out), done
	return nil
}

func (l *parallelLog) close() error {
	var err error
	if l.file != nil {
		err = l.file.Close()
	}
	if l.table != nil {
		err = errors.Join(err, l.table.Flush(), l.close_())
	}
	return err
}

// next makes the next job, with the command line it has in slot 1.
func (l *parallelLog) next(p *parallelPlan) (*parallel.Job, string, error) {
	if l.fixed {
		if len(l.failed) == 0 {
			return nil, "", io.EOF
		}
		e := l.failed[0]
		l.failed = l.failed[1:]
		return &parallel.Job{Seq: e.Seq, Slot: 1}, e.Command, nil
	}
	j, err := p.builder.Next()
	if err != nil {
		return nil, "", err
	}
	return j, p.command.Command(j, &p.env), nil
}

// command is a job's command line in its slot.
func (l *parallelLog) command(p *parallelPlan, j *parallelJob) string {
	if l.fixed || !p.command.UsesSlot() {
		return j.command
	}
	return p.command.Command(j.Job, &p.env)
}

// has tells whether an earlier run has done the job.
func (l *parallelLog) has(p *parallelPlan, j *parallel.Job, command string) (bool, error) {
	o := p.o
	switch {
	case l.fixed || !o.resume && !o.resumeFailed:
		return false, nil
	case o.jobLog == "":
		_, err := os.Stat(parallel.Results(p.results, j, &p.env, p.columns).Seq)
		return l.table == nil && err == nil, nil
	case p.command.UsesSlot():
		ok, _ := l.done.Has(j.Seq, command)
		return ok, nil
	}
	ok, err := l.done.Has(j.Seq, command)
	if err != nil {
		err = fmt.Errorf("--joblog %s is of another run: %w", o.jobLog, err)
	}
	return ok, err
}

// write notes the end of a job.
func (l *parallelLog) write(p *parallelPlan, j *parallelJob, end *parallelEnd) error {
	e := parallel.LogEntry{Seq: j.Seq, Host: ":", Start: end.start, Runtime: max(end.end-end.start, 0), Receive: j.out[0].length(), Outcome: end.Outcome,
		Command: j.command}
	if !l.local && end.node != "" {
		e.Host = end.node
	}
	if l.file != nil {
		if _, err := l.file.WriteString(e.Line()); err != nil {
			return fmt.Errorf("--joblog: %w", err)
		}
	}
	if p.results == nil {
		return nil
	}
	if l.table != nil {
		return l.row(p, j, &e)
	}
	return l.files(p, j)
}

// files writes a job's output to files of its own.
func (l *parallelLog) files(p *parallelPlan, j *parallelJob) error {
	names := parallel.Results(p.results, j.Job, &p.env, p.columns)
	if err := os.MkdirAll(filepath.Dir(names.Stdout), 0o777); err != nil {
		return fmt.Errorf("--results: %w", err)
	}
	for i, name := range []string{names.Stdout, names.Stderr} {
		f, err := os.Create(name)
		if err == nil {
			err = j.out[i].each(l.spill, 0, func(b []byte) error { _, err := f.Write(b); return err })
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return fmt.Errorf("--results: %w", err)
		}
	}
	if err := os.WriteFile(names.Seq, []byte(strconv.Itoa(j.Seq)), 0o666); err != nil {
		return fmt.Errorf("--results: %w", err)
	}
	return nil
}

// row writes a job into the table.
func (l *parallelLog) row(p *parallelPlan, j *parallelJob, e *parallel.LogEntry) error {
	var text [2]string
	for i := range text {
		var b bytes.Buffer
		t := &tagger{w: &b, tag: p.tag(j.Job)}
		if err := errors.Join(j.out[i].each(l.spill, 0, t.write), t.rest()); err != nil {
			return err
		}
		text[i] = b.String()
	}
	if l.sep == "" {
		l.table.WriteString(e.JSON(j.Args, text))
	} else {
		if l.table.Size() > 0 && j.order == 0 {
			l.table.WriteString(parallel.TableHeader(l.sep, p.columns, len(j.Args)))
		}
		l.table.WriteString(e.Row(l.sep, j.Args, text))
	}
	return l.table.Flush()
}
