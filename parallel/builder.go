package parallel

import (
	"errors"
	"fmt"
	"io"
)

// Batching is how many values a job takes.
type Batching struct {
	Max      int  // -n, -N, -L: at most so many records; 0 = no such limit, if Many, else 1
	None     bool // -n0: one record a job, and nothing of it in the command line
	Many     bool // -X, -m, --xargs: as many as the line has room for
	Spread   bool // … but evenly among the slots at the end of the input (not with --xargs)
	MaxChars int  // bytes of a command line; 0 = MaxLine
	Exit     bool // -x: too long a line ends all, even if fewer arguments would do
}

// MaxLine is the longest command line by default: what Linux takes as one argument, for the shell's -c.
const MaxLine = 131071

// TooLongError says that a command line does not fit.
type TooLongError struct {
	Len, Max int
	Arg      string
}

// Error is GNU parallel's message.
func (e *TooLongError) Error() string {
	arg := e.Arg
	if len(arg) > 50 {
		arg = arg[:50] + "..."
	}
	return fmt.Sprintf("Command line too long (%d >= %d) at input 0: %s", e.Len, e.Max, arg)
}

// Builder makes jobs of a source, one after the other.
type Builder struct {
	src   Source
	t     *Template
	env   *Env
	how   Batching
	seq   int
	back  [][]string // values that were read and given back
	tail  []int      // sizes of the jobs left when the input has been read to its end
	ended bool
}

// NewBuilder makes jobs with the values of src for the template.
func NewBuilder(src Source, t *Template, env *Env, how Batching) *Builder {
	if how.MaxChars == 0 {
		how.MaxChars = MaxLine + 1
	}
	if how.Max == 0 && !how.Many {
		how.Max = 1
	}
	return &Builder{src: src, t: t, env: env, how: how}
}

// Next returns the next job, io.EOF at the end. Its slot is not set.
func (b *Builder) Next() (*Job, error) {
	var rows [][]string
	var err error
	if b.how.Many {
		rows, err = b.many()
	} else {
		rows, err = b.few()
	}
	if err != nil {
		return nil, err
	}
	b.seq++
	j := b.job(rows)
	if !b.how.Many && len(rows) == 1 || b.how.None {
		return j, b.fits(j, rows)
	}
	return j, nil
}

func (b *Builder) job(rows [][]string) *Job {
	j := &Job{Seq: b.seq, Slot: 1, Rows: len(rows)}
	switch {
	case b.how.None:
	case len(rows) == 1:
		j.Args = rows[0]
	default:
		for _, r := range rows {
			j.Args = append(j.Args, r...)
		}
	}
	return j
}

// fits returns the error for a line that is too long.
func (b *Builder) fits(j *Job, rows [][]string) error {
	if n := len(b.t.Command(j, b.env)); n >= b.how.MaxChars {
		last := rows[len(rows)-1]
		return &TooLongError{n, b.how.MaxChars, last[0]}
	}
	return nil
}

func (b *Builder) read() ([]string, error) {
	if n := len(b.back); n > 0 {
		v := b.back[0]
		b.back = b.back[1:]
		return v, nil
	}
	if b.ended {
		return nil, io.EOF
	}
	v, err := b.src.Next()
	b.ended = errors.Is(err, io.EOF)
	return v, err
}

// few reads up to Max values, fewer if the line would be too long.
func (b *Builder) few() ([][]string, error) {
	var rows [][]string
	for len(rows) < b.how.Max {
		v, err := b.read()
		if errors.Is(err, io.EOF) && len(rows) > 0 {
			break
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, v)
	}
	for len(rows) > 1 {
		err := b.fits(b.job(rows), rows)
		if err == nil {
			break
		}
		if b.how.Exit {
			return nil, err
		}
		last := len(rows) - 1
		b.back = append([][]string{rows[last]}, b.back...)
		rows = rows[:last]
	}
	return rows, nil
}

// many reads as many values as fit. When the input has ended before a line was full, what is left is dealt out evenly.
func (b *Builder) many() ([][]string, error) {
	if len(b.tail) > 0 {
		n := b.tail[0]
		b.tail = b.tail[1:]
		rows := b.back[:n:n]
		b.back = b.back[n:]
		return rows, nil
	}
	rows, full, err := b.line()
	if err != nil || full || !b.how.Spread || b.env.Slots <= 1 {
		return rows, err
	}
	b.back = rows
	for left, size := len(rows), (len(rows)+b.env.Slots-1)/b.env.Slots; left > 0; left -= size {
		b.tail = append(b.tail, min(size, left))
	}
	return b.many()
}

// line reads values until the line is full or the input has ended. The length is found by adding what a value adds to a line, exactly
// for the first two and from there on by their difference: replacements of one value do not depend on the others.
func (b *Builder) line() (rows [][]string, full bool, err error) {
	var base int
	length := 0
	for b.how.Max == 0 || len(rows) < b.how.Max {
		v, err := b.read()
		if errors.Is(err, io.EOF) {
			if len(rows) == 0 {
				return nil, false, err
			}
			return rows, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		one := len(b.t.Command(b.job([][]string{v}), b.env))
		if len(rows) == 0 {
			length = one
		} else {
			if base == 0 {
				two := len(b.t.Command(b.job([][]string{rows[0], v}), b.env))
				base = length + one - two
			}
			length += one - base
		}
		if length >= b.how.MaxChars {
			if len(rows) == 0 {
				return nil, false, &TooLongError{length, b.how.MaxChars, v[0]}
			}
			b.back = append([][]string{v}, b.back...)
			return rows, true, nil
		}
		rows = append(rows, v)
	}
	return rows, true, nil
}

// ReadAhead reads the whole input and returns the number of jobs, for what must know it before the first. More than limit values
// are refused.
func (b *Builder) ReadAhead(limit int) (int, error) {
	var rows [][]string
	for {
		v, err := b.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		if len(rows) == limit {
			return 0, fmt.Errorf("the number of jobs is needed before the first starts, and the input has more than %d values", limit)
		}
		rows = append(rows, v)
	}
	b.back = rows
	if !b.how.Many {
		return (len(rows) + b.how.Max - 1) / b.how.Max, nil
	}
	probe := &Builder{src: b.src, t: b.t, env: b.env, how: b.how, back: rows, ended: true}
	n := 0
	for ; ; n++ {
		if _, err := probe.Next(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return 0, err
		}
	}
}
