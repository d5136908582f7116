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

// prologFailed is the type of the exception by which a broker says that a prolog failed.
const prologFailed = "prolog"

// suspect tells of the nodes on which a prolog failed.
func (m *Machine) suspect(e *elem, p *part, rec *Record) {
	s := Suspect{Job: e.id(), Note: rec.Note}
	for i := range p.parts {
		s.Nodes = append(s.Nodes, p.parts[i].Node)
	}
	m.out.Suspects = append(m.out.Suspects, s)
}
