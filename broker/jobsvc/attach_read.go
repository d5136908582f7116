package jobsvc

import (
	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// What came of a job's output is read from the store in pieces. The next piece is read when the one before has reached the broker of
// who asked (an answer to a ping comes back behind it), and only a few readings are under way at a time: a watcher of much output
// that does not read it costs the leader and the links no more than these pieces.
const (
	pieceSize   = 2 << 20 // bytes of output
	maxReadings = 4
)

// readings of attaches.
type readings struct {
	n     int // under way
	queue []*attach
}

// stored is what one query finds.
type stored struct {
	row    job.ArrayRow // of an element that has ended
	el     job.ElementRow
	output []job.OutputRow
	pos    job.OutputPos
	more   bool
}

// readAttach reads an element's stored output, and its events if it has ended, when it is its turn.
func (s *Service) readAttach(x *attach) {
	x.querying = true
	s.watch.readings.queue = append(s.watch.readings.queue, x)
	s.nextReading()
}

func (s *Service) nextReading() {
	r := &s.watch.readings
	for r.n < maxReadings && len(r.queue) > 0 {
		x := r.queue[0]
		r.queue[0] = nil
		r.queue = r.queue[1:]
		if s.attached(x) {
			r.n++
			s.readPiece(x)
		}
	}
}

func (s *Service) readingEnded() {
	s.watch.readings.n--
	s.nextReading()
}

// attached tells whether somebody still waits for x.
func (s *Service) attached(x *attach) bool { return s.watch.attaches[x.req.Key()] == x }

func (s *Service) readPiece(x *attach) {
	want, over, attempt, pos := x.want, x.over, x.attempt, x.pos
	s.query(func(rd job.Reader) (any, error) {
		st := stored{pos: pos}
		var err error
		if over {
			rd, st.row, st.el, err = findKept(rd, want.ID)
		}
		if err == nil && want.Output {
			err = st.readOutput(rd, want.ID, attempt)
		}
		return st, err
	}, func(v any, err error) {
		if err == nil && s.attached(x) {
			s.pieceRead(x, over, v.(stored))
			return
		}
		if s.attached(x) {
			s.watch.dropAttach(x)
			s.out.Fail(x.req, err)
		}
		s.readingEnded()
	})
}

// readOutput reads a piece.
func (st *stored) readOutput(rd job.Reader, id jobspec.ID, attempt uint32) error {
	size := 0
	return rd.OutputFrom(id, attempt, st.pos, func(o job.OutputRow, behind job.OutputPos) bool {
		if size >= pieceSize {
			st.more = true
			return false
		}
		size += len(o.Data)
		st.output, st.pos = append(st.output, o), behind
		return true
	})
}

// pieceRead passes a piece on, and goes on behind it.
func (s *Service) pieceRead(x *attach, over bool, st stored) {
	if over {
		s.sendEvents(x, &st.row, st.el.Events)
	}
	if !st.more {
		s.attachRead(x, over, st.output)
		s.readingEnded()
		return
	}
	s.sendOutput(x, st.output)
	x.attempt, x.pos = st.output[0].Attempt, st.pos
	s.whenPassed(x, func() {
		if !s.attached(x) {
			s.readingEnded()
			return
		}
		s.readPiece(x)
	})
}

// whenPassed calls then when all that was sent to x so far has reached its client's broker, or will never.
func (s *Service) whenPassed(x *attach, then func()) {
	s.out.Call(reactor.Call{Key: then, Topic: api.Ping.Topic, Target: reactor.BrokerOf(x.req), Body: api.PingReq{}})
}

// findKept is findElement, with the row and the reader of the branch in which it ended, where what that keeps lies here.
func findKept(rd job.Reader, id jobspec.ID) (job.Reader, job.ArrayRow, job.ElementRow, error) {
	row, el, err := findElement(rd, id)
	for to := endedIn(&el); err == nil && to >= 0; to = endedIn(&el) {
		below, ok, _ := rd.Below(to) // if it cannot be read there is what is known here
		if !ok {
			break
		}
		r, e, err := findElement(below, id)
		if err != nil {
			break
		}
		rd, row, el = below, r, e
	}
	return rd, row, el, err
}

// findElement returns a finished element, or NotFound.
func findElement(rd job.Reader, id jobspec.ID) (job.ArrayRow, job.ElementRow, error) {
	row, ok, err := rd.Find(id)
	if err != nil {
		return row, job.ElementRow{}, err
	}
	if !ok {
		return row, job.ElementRow{}, wire.Errorf(wire.NotFound, "%s", unknownJob(id))
	}
	if row.N > 1 && id == row.ID {
		return row, job.ElementRow{}, wire.Errorf(wire.NotFound, "%v is an array of %d; name one element of it", id, row.N)
	}
	el, ok, err := rd.Element(row.ID, indexOf(row, id))
	if err == nil && !ok {
		err = wire.Errorf(wire.NotFound, "%s", unknownJob(id))
	}
	return row, el, err
}
