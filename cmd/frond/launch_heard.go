package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"time"
)

// ear is the error output of a launcher: it goes to the log, and nodes that the launcher gives up are told.
type ear struct {
	f    *fleet
	lost func(line string) []string
	line []byte // what came of one that has not ended
}

// evLost: a launcher has given up nodes.
type evLost struct{ nodes []string }

// lostGrace is how long a launcher has to say more of it.
const lostGrace = 300 * time.Millisecond

// Write never fails: a launcher must not end because nobody listens.
func (e *ear) Write(b []byte) (int, error) {
	if log, err := os.OpenFile(e.f.logFile(), os.O_WRONLY|os.O_APPEND, 0); err == nil {
		log.Write(b)
		log.Close()
	}
	e.line = append(e.line, b...)
	for {
		i := bytes.IndexByte(e.line, '\n')
		if i < 0 {
			return len(b), nil
		}
		if nodes := e.lost(string(e.line[:i])); len(nodes) > 0 {
			time.AfterFunc(lostGrace, func() { e.f.post(evLost{nodes}) })
		}
		e.line = e.line[i+1:]
	}
}

// lost: those of the nodes from which nothing was heard will not come.
func (f *fleet) lost(ev evLost) {
	for _, s := range f.slots {
		if s.report == nil && !s.over && slices.Contains(ev.nodes, s.place.Node) {
			s.err = strings.TrimPrefix(f.why(s.place.Rank), "node "+s.place.Node+": ")
			s.over = true
		}
	}
}
