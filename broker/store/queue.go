package store

import "sync"

// queue is an unbounded queue between the service, which must not block, and the goroutines of the store.
type queue struct {
	mu     sync.Mutex
	some   *sync.Cond
	items  []*task
	closed bool
}

func newQueue() *queue {
	q := &queue{}
	q.some = sync.NewCond(&q.mu)
	return q
}

// put reports whether t was taken: not after close.
func (q *queue) put(t *task) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.items = append(q.items, t)
	q.some.Signal()
	return true
}

// all waits for items and takes all of them; nil means closed and empty.
func (q *queue) all() []*task {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.await()
	items := q.items
	q.items = nil
	return items
}

// one waits for an item and takes it; nil means closed and empty.
func (q *queue) one() *task {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.await()
	if len(q.items) == 0 {
		return nil
	}
	t := q.items[0]
	q.items[0] = nil
	q.items = q.items[1:]
	return t
}

func (q *queue) await() {
	for len(q.items) == 0 && !q.closed {
		q.some.Wait()
	}
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.some.Broadcast()
}
