// Package board lets processes that one launcher has started together find each other by files, where the launcher offers no better way: it has the calls of
// PMI (overlay/pmi), on a directory that must be the same for all of them. What is put can be read by whoever reads the user's files. It is an adapter.
package board

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Board is one process's part. Its methods are called by one goroutine at a time.
type Board struct {
	dir        string
	rank, size int
	limit      time.Duration
	round      int
	mine       map[string]string // put since the last barrier
	all        map[string]string
}

// Open joins the launch of a key, which no other launch has, in a directory below base. Each barrier may take as long as limit.
func Open(base, key string, rank, size int, limit time.Duration) (*Board, error) {
	sum := sha256.Sum256([]byte(key))
	b := &Board{dir: filepath.Join(base, "launch-"+hex.EncodeToString(sum[:8])), rank: rank, size: size, limit: limit, mine: map[string]string{}, all: map[string]string{}}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return nil, fmt.Errorf("no directory for the processes of the launch to meet in: %w", err)
	}
	return b, nil
}

// Dir is where the files are.
func (b *Board) Dir() string { return b.dir }

// Put makes a value known to all after the next Barrier.
func (b *Board) Put(key, value string) error {
	b.mine[key] = value
	return nil
}

// Get returns what was put before the last Barrier.
func (b *Board) Get(key string) (string, error) {
	value, ok := b.all[key]
	if !ok {
		return "", fmt.Errorf("nobody has put %s", key)
	}
	return value, nil
}

// PutLong is Put: values may be as long as they like.
func (b *Board) PutLong(key, value string) error { return b.Put(key, value) }

// GetLong is Get.
func (b *Board) GetLong(key string) (string, error) { return b.Get(key) }

func (b *Board) name(round, rank int) string { return fmt.Sprintf("%d.%d", round, rank) }

// MissingError says who did not come to a barrier.
type MissingError struct {
	Dir   string
	Ranks []int
	Size  int
	First bool // no other process sees more than this one, but of a lower rank: that one tells the user
}

// Error names them.
func (e *MissingError) Error() string {
	var names []string
	for _, r := range e.Ranks[:min(len(e.Ranks), 8)] {
		names = append(names, strconv.Itoa(r))
	}
	if len(e.Ranks) > 8 {
		names = append(names, "…")
	}
	return fmt.Sprintf("of the %d processes of the launch, number %s cannot be seen in %s: is that directory the same on all hosts?", e.Size, strings.Join(names, ", "), e.Dir)
}

// Barrier returns when all processes of the launch are in it.
func (b *Board) Barrier() error {
	data, err := json.Marshal(b.mine)
	if err != nil {
		return fmt.Errorf("encode values: %w", err)
	}
	own := filepath.Join(b.dir, b.name(b.round, b.rank))
	tmp := own + ".new"
	if err := errors.Join(os.WriteFile(tmp, data, 0o600), os.Rename(tmp, own)); err != nil {
		return fmt.Errorf("write to the processes of the launch: %w", err)
	}
	fi, err := os.Stat(own)
	if err != nil {
		return fmt.Errorf("write to the processes of the launch: %w", err)
	}
	oldest := fi.ModTime().Add(-2 * b.limit) // what is older is of a launch that had the same key; the clock is the file server's
	end := time.Now().Add(b.limit)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		missing, err := b.missing(oldest)
		switch {
		case err != nil:
			return err
		case len(missing) == 0:
			return b.gather()
		case time.Now().After(end):
			first := !slices.ContainsFunc(b.present(missing), func(r int) bool { return r < b.rank })
			return &MissingError{Dir: b.dir, Ranks: missing, Size: b.size, First: first}
		}
		time.Sleep(pause)
	}
}

// missing lists who is not in the barrier yet.
func (b *Board) missing(oldest time.Time) ([]int, error) {
	list, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, fmt.Errorf("look for the processes of the launch: %w", err)
	}
	there := make(map[string]bool, len(list))
	for _, e := range list {
		if fi, err := e.Info(); err == nil && fi.ModTime().After(oldest) {
			there[e.Name()] = true
		}
	}
	var out []int
	for r := range b.size {
		if !there[b.name(b.round, r)] {
			out = append(out, r)
		}
	}
	return out, nil
}

// present are the others.
func (b *Board) present(missing []int) (out []int) {
	for r := range b.size {
		if !slices.Contains(missing, r) {
			out = append(out, r)
		}
	}
	return out
}

func (b *Board) gather() error {
	for r := range b.size {
		var values map[string]string
		data, err := os.ReadFile(filepath.Join(b.dir, b.name(b.round, r)))
		if err == nil {
			err = json.Unmarshal(data, &values)
		}
		if err != nil {
			return fmt.Errorf("read what process %d of the launch says: %w", r, err)
		}
		for k, v := range values {
			b.all[k] = v
		}
	}
	b.round++
	b.mine = map[string]string{}
	return nil
}

// Close ends this process's part.
func (b *Board) Close() error { return os.WriteFile(filepath.Join(b.dir, b.done(b.rank)), nil, 0o600) }

func (b *Board) done(rank int) string { return "done." + strconv.Itoa(rank) }

// removeLimit is how long Remove waits for others to have read.
const removeLimit = 2 * time.Second

// Remove takes the files away, when the others have closed.
func (b *Board) Remove() error {
	if _, err := os.Stat(b.dir); err != nil {
		return err
	}
	for end := time.Now().Add(removeLimit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		closed, _ := filepath.Glob(filepath.Join(b.dir, "done.*"))
		if len(closed) >= b.size-1 {
			break
		}
	}
	return os.RemoveAll(b.dir)
}
