package job

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/frond-hpc/frond/jobspec"
)

// Parameters of elements: each element of an array may have a list of strings of its own, which stand for {{param.N}} in its command and
// file names. They lie in the store, in sets of chunks. The machine holds the few chunks from which elements are being started; an
// element whose chunk is not there waits for it, with its resources.

// maxChunks is how many chunks of an array are held: that from which elements start, the next, and one for elements that run again.
const maxChunks = 3

// ParamChunk is a chunk as the machine holds it: the parameters of element First and those that follow. Immutable.
type ParamChunk struct {
	First int
	Lists [][]string
}

// ParamsWanted asks for the chunk of a set that holds an element's parameters.
type ParamsWanted struct {
	Array jobspec.ID
	Set   uint64
	Index int
}

// paramState is what an array with parameters has of them.
type paramState struct {
	chunks  []*ParamChunk // the one used last at the end
	waiting []*elem       // for theirs
	asked   bool          // a read is under way
	ahead   bool          // for elements of which none waited then
}

// EncodeParams writes parameter lists as the store keeps them: for each the number of strings, for each of these its length and bytes.
func EncodeParams(lists [][]string) []byte {
	var b []byte
	for _, list := range lists {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, s := range list {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	return b
}

var errParams = errors.New("damaged parameters")

// DecodeParams reads what EncodeParams wrote of n lists.
func DecodeParams(data []byte, n int) ([][]string, error) {
	lists := make([][]string, 0, min(n, len(data)))
	text := string(data)
	number := func() int {
		v, k := binary.Uvarint(data)
		if k <= 0 || v > uint64(len(data)-k) {
			return -1
		}
		data, text = data[k:], text[k:]
		return int(v)
	}
	for range n {
		count := number()
		if count < 0 {
			return nil, errParams
		}
		list := make([]string, count)
		for i := range list {
			size := number()
			if size < 0 {
				return nil, errParams
			}
			list[i], data, text = text[:size], data[size:], text[size:]
		}
		lists = append(lists, list)
	}
	if len(data) > 0 {
		return nil, errParams
	}
	return lists, nil
}

// ReadParams reads the chunk of a set that holds an element's parameters.
func ReadParams(r Reader, set uint64, index int) (*ParamChunk, error) {
	row, ok, err := r.Params(set, index)
	if err == nil && !ok {
		err = fmt.Errorf("the store has no parameters of element %d", index)
	}
	if err != nil {
		return nil, err
	}
	lists, err := DecodeParams(row.Data, row.N)
	return &ParamChunk{row.First, lists}, err
}

// Of returns an element's parameters; ok is false if they are not in the chunk.
func (c *ParamChunk) Of(idx int) (list []string, ok bool) {
	if idx < c.First || idx >= c.First+len(c.Lists) {
		return nil, false
	}
	return c.Lists[idx-c.First], true
}

// of looks for an element's parameters among the chunks that are held.
func (p *paramState) of(idx int) ([]string, bool) {
	for i := len(p.chunks) - 1; i >= 0; i-- {
		c := p.chunks[i]
		if list, ok := c.Of(idx); ok {
			if last := len(p.chunks) - 1; i != last {
				p.chunks = append(slices.Delete(p.chunks, i, i+1), c)
			}
			return list, true
		}
	}
	return nil, false
}

func (p *paramState) has(idx int) bool {
	return slices.ContainsFunc(p.chunks, func(c *ParamChunk) bool { _, ok := c.Of(idx); return ok })
}

func (m *Machine) onUploaded(ev Uploaded) {
	if ev.New != nil {
		m.txn.Uploads = append(m.txn.Uploads, *ev.New)
	}
	m.txn.Params = append(m.txn.Params, ev.Chunks...)
}

// equip gives an element that is to start its parameters, or has it wait for them.
func (m *Machine) equip(e *elem) {
	a := e.arr
	if a.paramSet == 0 {
		return
	}
	if a.params == nil {
		a.own().params = &paramState{}
	}
	list, ok := a.params.of(a.shown(e.idx))
	e.params, e.wants = list, !ok
	if e.wants {
		a.params.waiting = append(a.params.waiting, e)
	}
	m.readAhead(a, a.shown(e.idx))
}

// readAhead asks for a chunk that is needed: that of the first element that waits for its own, else the one after that of idx when half of
// it has been started, so that elements need not wait.
func (m *Machine) readAhead(a *array, idx int) {
	p := a.params
	want := -1
	p.ahead = p.ahead && p.asked
	switch {
	case p.asked:
		return
	case len(p.waiting) > 0:
		want = a.shown(p.waiting[0].idx)
	default:
		if c := p.chunks[len(p.chunks)-1]; idx-c.First >= len(c.Lists)/2 {
			want = c.First + len(c.Lists)
		}
		if want < 0 || a.indexText != "" || want >= a.n || want < a.next || p.has(want) || a.foreign.Has(want) {
			return
		}
		p.ahead = true
	}
	p.asked = true
	m.out.Params = append(m.out.Params, ParamsWanted{a.id, a.paramSet, want})
}

func (m *Machine) onParamsLoaded(ev ParamsLoaded) {
	a := m.arrays[ev.Array]
	if a == nil || a.params == nil {
		return
	}
	p := a.params
	if ev.Chunk != nil {
		if p.chunks = append(p.chunks, ev.Chunk); len(p.chunks) > maxChunks {
			p.chunks = slices.Clone(p.chunks[1:])
		}
	}
	waiting := p.waiting
	p.waiting = nil
	for _, e := range waiting {
		m.paramsFor(e, &ev)
	}
	p.asked = false
	if len(p.waiting) > 0 {
		m.readAhead(a, 0)
	}
	m.dropParams(a)
}

// paramsFor starts an element that waited, unless it has to wait on or is over.
func (m *Machine) paramsFor(e *elem, ev *ParamsLoaded) {
	p := e.arr.params
	if !e.wants || e.state != jobspec.StateRun {
		return
	}
	idx := e.arr.shown(e.idx)
	list, ok := p.of(idx)
	switch {
	case ok:
		e.params, e.wants = list, false
		m.startAll(e)
	case ev.Chunk != nil || idx != ev.Index || p.ahead: // in a branch they may have come since it was asked for
		p.waiting = append(p.waiting, e)
	case m.cfg.Branch:
		m.yield(e)
	default:
		e.wants = false
		m.raise(e, Exception{"exec", 0, "its parameters cannot be read: " + ev.Err}, m.now)
		m.endRun(e)
	}
}

func (p *paramState) check() error {
	if len(p.waiting) > 0 && !p.asked {
		return errors.New("elements wait for parameters that nobody reads")
	}
	if len(p.chunks) > maxChunks {
		return fmt.Errorf("%d chunks of parameters are held", len(p.chunks))
	}
	return nil
}

// dropParams forgets the chunks of an array all of whose elements have been started.
func (m *Machine) dropParams(a *array) {
	if p := a.params; p != nil && a.pending == 0 && !p.asked && len(p.waiting) == 0 {
		a.params = nil
	}
}
