package main

import (
	"bufio"
	"bytes"
	"io"
)

// parallelPrinter prints the output of jobs: a job's together when it has ended, or line by line, or as it comes; in any order, or in
// that of the input.
type parallelPrinter struct {
	plan  *parallelPlan
	spill *spillFile
	out   *bufio.Writer
	err   io.Writer
	quiet bool // output goes to files only
	keep  bool // in order
	raw   bool // as it comes
	next  int  // with keep: whose turn it is
	ended map[int]*parallelJob
}

func newParallelPrinter(p *parallelPlan, spill *spillFile, out, err io.Writer) *parallelPrinter {
	return &parallelPrinter{plan: p, spill: spill, out: bufio.NewWriterSize(out, 64<<10), err: err, quiet: p.o.results != "",
		keep: p.o.keep && !p.o.noKeep, raw: p.o.ungroup, ended: map[int]*parallelJob{}}
}

// live prints what has come of a job that runs, if it is its turn.
func (p *parallelPrinter) live(j *parallelJob) error {
	if p.quiet || p.keep && j.order != p.next {
		return nil
	}
	return p.emit(j, false)
}

// done prints the rest of a job that has ended, now or when it is its turn.
func (p *parallelPrinter) done(j *parallelJob) error {
	if !p.keep {
		return p.last(j)
	}
	p.ended[j.order] = j
	for {
		j := p.ended[p.next]
		if j == nil {
			return nil
		}
		delete(p.ended, p.next)
		p.next++
		if err := p.last(j); err != nil {
			return err
		}
	}
}

func (p *parallelPrinter) last(j *parallelJob) error {
	defer p.forget(j)
	if p.quiet {
		return nil
	}
	if p.plan.o.verbose > 0 && !p.plan.o.silent {
		p.line(j, []byte(j.command+"\n"))
	}
	return p.emit(j, true)
}

// forget gives up what is kept of a job's output.
func (p *parallelPrinter) forget(j *parallelJob) {
	for i := range j.out {
		j.out[i].reset(p.spill)
		j.shown[i] = 0
	}
}

// line prints a piece of standard output that is not the job's own.
func (p *parallelPrinter) line(j *parallelJob, text []byte) {
	if !p.raw {
		p.out.WriteString(p.plan.tag(j.Job))
	}
	p.out.Write(text)
}

// emit prints what was not printed yet: to the end of the last line, or all.
func (p *parallelPrinter) emit(j *parallelJob, all bool) error {
	for i := range j.out {
		if j.out[i].length() == j.shown[i] {
			continue
		}
		var w io.Writer = p.out
		if i == 1 {
			if err := p.out.Flush(); err != nil {
				return err
			}
			w = p.err
		}
		if err := p.stream(w, j, i, all); err != nil {
			return err
		}
	}
	return nil
}

func (p *parallelPrinter) stream(w io.Writer, j *parallelJob, i int, all bool) error {
	tag := p.plan.tag(j.Job)
	if p.raw || tag == "" && all {
		return j.out[i].each(p.spill, j.shown[i], func(b []byte) error {
			j.shown[i] += int64(len(b))
			_, err := w.Write(b)
			return err
		})
	}
	t := &tagger{w: w, tag: tag}
	err := j.out[i].each(p.spill, j.shown[i], t.write)
	if err == nil && all {
		err = t.rest()
	}
	j.shown[i] += t.n
	return err
}

// tagger writes whole lines with a tag in front of each.
type tagger struct {
	w    io.Writer
	tag  string
	part []byte
	n    int64 // bytes that were written, without tags
}

func (t *tagger) write(b []byte) error {
	var out []byte
	for line := range bytes.Lines(b) {
		if line[len(line)-1] != '\n' {
			t.part = append(t.part, line...)
			break
		}
		out = append(append(append(out, t.tag...), t.part...), line...)
		t.n += int64(len(t.part) + len(line))
		t.part = t.part[:0]
	}
	_, err := t.w.Write(out)
	return err
}

func (t *tagger) rest() error {
	if len(t.part) == 0 {
		return nil
	}
	t.n += int64(len(t.part))
	_, err := t.w.Write(append([]byte(t.tag), t.part...))
	return err
}

func (p *parallelPrinter) flush() error { return p.out.Flush() }

// end prints what is still kept: jobs that have ended behind one that never did. Not so when jobs were killed.
func (p *parallelPrinter) end(killed bool) error {
	if !killed {
		for len(p.ended) > 0 {
			if j := p.ended[p.next]; j != nil {
				delete(p.ended, p.next)
				if err := p.last(j); err != nil {
					return err
				}
			}
			p.next++
		}
	}
	return p.flush()
}
