package exec

// timers is a heap of runs by their next deadline; a run is in it at most once and knows its place, so that nothing of an ended
// run stays behind.
type timers []*run

func (h timers) less(i, j int) bool { return h[i].due < h[j].due }

func (h timers) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i+1, j+1
}

// set puts r at its next deadline, 0 = none.
func (h *timers) set(r *run, due int64) {
	switch {
	case due == 0 && r.place == 0:
	case due == 0:
		h.remove(r)
	case r.place == 0:
		r.due = due
		*h = append(*h, r)
		r.place = len(*h)
		h.up(r.place - 1)
	default:
		r.due = due
		h.up(r.place - 1)
		h.down(r.place - 1)
	}
}

func (h *timers) remove(r *run) {
	i, last := r.place-1, len(*h)-1
	if i != last {
		h.swap(i, last)
	}
	(*h)[last] = nil
	*h = (*h)[:last]
	r.place, r.due = 0, 0
	if i < last {
		h.up(i)
		h.down(i)
	}
}

func (h timers) up(i int) {
	for i > 0 && h.less(i, (i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h timers) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h.less(c+1, c) {
			c++
		}
		if !h.less(c, i) {
			return
		}
		h.swap(i, c)
		i = c
	}
}
