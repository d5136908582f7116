package mem

import (
	"container/heap"
	"sync"
	"time"
)

// RealClock is the Clock of real time. Its one goroutine makes all calls, in order; Close ends it.
type RealClock struct {
	mu     sync.Mutex
	timers timers
	seq    uint64
	wake   chan struct{} // one slot
	quit   chan struct{}
	ended  chan struct{}
	once   sync.Once
}

// NewRealClock starts a clock.
func NewRealClock() *RealClock {
	c := &RealClock{wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{})}
	go c.run()
	return c
}

// Now is time.Now.
func (c *RealClock) Now() time.Time { return time.Now() }

// After implements Clock. After Close nothing is called any more.
func (c *RealClock) After(d time.Duration, f func()) {
	c.mu.Lock()
	c.seq++
	heap.Push(&c.timers, timer{time.Now().Add(d), c.seq, f})
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Close stops the clock and waits for a call that is under way. Not to be called from such a call.
func (c *RealClock) Close() {
	c.once.Do(func() { close(c.quit) })
	<-c.ended
}

func (c *RealClock) run() {
	defer close(c.ended)
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		f, wait := c.next()
		if f != nil {
			f()
			wait = 0
		}
		t.Reset(wait)
		select {
		case <-c.quit:
			return
		case <-c.wake:
		case <-t.C:
		}
	}
}

// next takes the first timer if it is due; else it says how long to wait.
func (c *RealClock) next() (f func(), wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.timers) == 0 {
		return nil, time.Hour
	}
	if wait = time.Until(c.timers[0].at); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&c.timers).(timer).f, 0
}

type timer struct {
	at  time.Time
	seq uint64
	f   func()
}

// timers is a heap by time and then by order of creation.
type timers []timer

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	if !t[i].at.Equal(t[j].at) {
		return t[i].at.Before(t[j].at)
	}
	return t[i].seq < t[j].seq
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }

// Push implements heap.Interface.
func (t *timers) Push(x any) { *t = append(*t, x.(timer)) }

// Pop implements heap.Interface.
func (t *timers) Pop() any {
	old := *t
	last := len(old) - 1
	x := old[last]
	old[last] = timer{}
	*t = old[:last]
	return x
}
