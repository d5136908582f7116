package main

import (
	"bytes"
	"cmp"
	"io"
	"slices"
	"strconv"

	"github.com/frond-hpc/frond/broker/api"
)

// outputWriter prints the output of one job's tasks. Lines of different tasks are not mixed: as soon as a second task writes to a stream, or with labels, whole lines are
// written; until then output goes on at once, so that prompts and progress bars show.
type outputWriter struct {
	out, err io.Writer
	label    bool
	prefix   string // in front of the label: the job's id where several jobs are shown
	raw      bool   // --unbuffered: never wait for a whole line
	whole    bool   // whole lines from the start: other jobs write to the same place
	streams  map[streamKey]*taskStream
	tasks    map[uint8]int // tasks seen per stream
	failed   error         // of a write
}

type streamKey struct {
	task   int
	stream uint8
}

// taskStream is one stream of one task.
type taskStream struct {
	attempt uint32 // of the job, that wrote last
	ended   int64  // offset behind what was printed of this attempt
	part    []byte // an unfinished line
	mid     bool   // raw: an unfinished line has been written
}

func newOutputWriter(out, err io.Writer, label bool) *outputWriter {
	return &outputWriter{out: out, err: err, label: label, streams: map[streamKey]*taskStream{}, tasks: map[uint8]int{}}
}

// write prints what was not printed yet of one piece, and nothing of attempts before the last: after a lost connection output comes again.
// Attempt 0 is not of a job: all of it is printed.
func (w *outputWriter) write(o *api.Output) {
	key := streamKey{o.Task, o.Stream}
	t := w.streams[key]
	if t == nil {
		t = &taskStream{}
		w.streams[key] = t
		w.tasks[o.Stream]++
	}
	switch {
	case o.Attempt < t.attempt:
		return
	case o.Attempt == 0:
		w.put(key, t, o.Data)
		return
	case o.Attempt > t.attempt:
		t.attempt, t.ended = o.Attempt, 0
	}
	if skip := max(t.ended-o.Offset, 0); skip < int64(len(o.Data)) {
		t.ended = o.Offset + int64(len(o.Data))
		w.put(key, t, o.Data[skip:])
	}
}

func (w *outputWriter) put(key streamKey, t *taskStream, data []byte) {
	if !w.label && (w.raw || w.tasks[key.stream] == 1 && !w.whole) {
		w.emit(key.stream, data)
		return
	}
	if w.raw {
		w.labelled(key, t, data)
		return
	}
	end := bytes.LastIndexByte(data, '\n') + 1
	if end == 0 {
		t.part = append(t.part, data...)
		return
	}
	lines := append(t.part, data[:end]...)
	t.part = append([]byte(nil), data[end:]...)
	w.lines(key, lines)
}

// labelled writes data at once with a label at the start of each line.
func (w *outputWriter) labelled(key streamKey, t *taskStream, data []byte) {
	for line := range bytes.Lines(data) {
		if !t.mid {
			w.emit(key.stream, []byte(w.labelOf(key.task)))
		}
		w.emit(key.stream, line)
		t.mid = line[len(line)-1] != '\n'
	}
}

// lines writes whole lines (the last may lack its newline).
func (w *outputWriter) lines(key streamKey, lines []byte) {
	if !w.label {
		w.emit(key.stream, lines)
		return
	}
	label := w.labelOf(key.task)
	out := make([]byte, 0, len(lines)+64)
	for line := range bytes.Lines(lines) {
		out = append(out, label...)
		out = append(out, line...)
	}
	w.emit(key.stream, out)
}

func (w *outputWriter) labelOf(task int) string { return w.prefix + strconv.Itoa(task) + ": " }

func (w *outputWriter) emit(stream uint8, data []byte) {
	to := w.out
	if stream == 2 {
		to = w.err
	}
	if _, err := to.Write(data); err != nil && w.failed == nil {
		w.failed = err
	}
}

// finish writes unfinished lines, in the order of tasks, with a newline where labels ask for lines.
func (w *outputWriter) finish() error {
	for stream := uint8(1); stream <= 2; stream++ {
		for _, key := range w.keys(stream) {
			t := w.streams[key]
			if len(t.part) == 0 {
				continue
			}
			if w.label {
				t.part = append(t.part, '\n')
			}
			w.lines(key, t.part)
			t.part = nil
		}
	}
	return w.failed
}

func (w *outputWriter) keys(stream uint8) []streamKey {
	var keys []streamKey
	for k := range w.streams {
		if k.stream == stream {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b streamKey) int { return cmp.Compare(a.task, b.task) })
	return keys
}
