package job

import "encoding/json"

// posted is an event of an element's epilog, which waits for finish.
type posted struct {
	code code
	time float64
	ctx  []byte
}

// postedCodes are the events that a broker tells of its part, each once; their place is the bit in part.posted.
var postedCodes = [...]code{evPrologStart, evPrologFinish, evEpilogStart, evEpilogFinish}

// partPosted posts an event of a part's prolog or epilog.
func (m *Machine) partPosted(e *elem, p *part, rec *Record) {
	for bit, c := range postedCodes {
		if codeNames[c] != rec.Type || p.posted&(1<<bit) != 0 {
			continue
		}
		p.posted |= 1 << bit
		var status *int
		if c == evPrologFinish || c == evEpilogFinish {
			status = &rec.Status
		}
		ctx, _ := json.Marshal(struct {
			Description string `json:"description"`
			Status      *int   `json:"status,omitempty"`
		}{rec.Note + " on " + m.rankName(p.rank), status})
		if c == evEpilogStart || c == evEpilogFinish {
			e.after = append(e.after, posted{c, rec.Time, ctx})
			return
		}
		e.log.add(c, max(rec.Time, e.log.last), ctx)
		m.touch(e)
		return
	}
}
