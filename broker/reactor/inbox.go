package reactor

import "sync"

// Inbox is an unbounded queue of one owner, who takes all of it at once, and many senders. Its bounds are at the broker's edges:
// credits on links, limits per client.
type Inbox[T any] struct {
	mu     sync.Mutex
	q      []T
	closed bool
	wake   chan struct{}
}

// keepCap bounds the slices that are used again: what a burst needed is given back.
const keepCap = 16 << 10

// NewInbox makes an empty inbox.
func NewInbox[T any]() *Inbox[T] { return &Inbox[T]{wake: make(chan struct{}, 1)} }

// Push adds items and wakes the owner.
func (i *Inbox[T]) Push(items ...T) {
	if i.Add(items...) {
		i.Signal()
	}
}

// Add adds items and tells whether the owner must be woken by Signal: the inbox was empty. This lets a sender with many
// messages for several inboxes keep their order and wake each owner once.
func (i *Inbox[T]) Add(items ...T) (wake bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return false
	}
	wake = len(i.q) == 0
	i.q = append(i.q, items...)
	return wake
}

// Signal wakes the owner.
func (i *Inbox[T]) Signal() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// Wake is readable when there may be something to take.
func (i *Inbox[T]) Wake() <-chan struct{} { return i.wake }

// Take returns all items. Used is what the last Take returned, for its memory.
func (i *Inbox[T]) Take(used []T) []T {
	clear(used)
	if cap(used) > keepCap {
		used = nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	q := i.q
	i.q = used[:0]
	return q
}

// Close drops what is there and all that comes.
func (i *Inbox[T]) Close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed, i.q = true, nil
}
