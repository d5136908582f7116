package main

import (
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// spillFile holds output that waits to be printed: in memory up to a limit, then in one temporary file that has no name. What was
// printed is given back, in the file as holes.
type spillFile struct {
	mu   sync.Mutex
	held int64 // bytes in memory
	file *os.File
	end  int64
}

// maxHeld is how many bytes of output are kept in memory.
const maxHeld = 64 << 20

// spilled is a sequence of bytes in a spillFile.
type spilled struct {
	mu    sync.Mutex
	size  int64
	parts []spillPart
}

// spillPart is a piece, in memory or at a place of the file.
type spillPart struct {
	mem   []byte
	at, n int64
}

// write appends data.
func (s *spilled) write(f *spillFile, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	n := int64(len(data))
	if f.held+n <= maxHeld {
		f.held += n
		s.parts = append(s.parts, spillPart{mem: data, n: n})
		s.size += n
		return nil
	}
	if f.file == nil {
		file, err := os.CreateTemp("", "frond-parallel-*")
		if err != nil {
			return err
		}
		os.Remove(file.Name())
		f.file = file
	}
	if _, err := f.file.WriteAt(data, f.end); err != nil {
		return err
	}
	s.parts = append(s.parts, spillPart{at: f.end, n: n})
	f.end += n
	s.size += n
	return nil
}

// reset forgets all that was written.
func (s *spilled) reset(f *spillFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range s.parts {
		if p.mem != nil {
			f.held -= p.n
		} else {
			_ = unix.Fallocate(int(f.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, p.at, p.n) // to save space only
		}
	}
	s.parts, s.size = nil, 0
}

// length is how many bytes were written.
func (s *spilled) length() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// each calls to with all bytes from offset on, in pieces.
func (s *spilled) each(f *spillFile, from int64, to func([]byte) error) error {
	s.mu.Lock()
	parts := s.parts
	s.mu.Unlock()
	for _, p := range parts {
		if from >= p.n {
			from -= p.n
			continue
		}
		if err := p.read(f, from, to); err != nil {
			return err
		}
		from = 0
	}
	return nil
}

func (p *spillPart) read(f *spillFile, from int64, to func([]byte) error) error {
	if p.mem != nil {
		return to(p.mem[from:])
	}
	buf := make([]byte, min(p.n-from, 256<<10))
	for from < p.n {
		n, err := f.file.ReadAt(buf[:min(int64(len(buf)), p.n-from)], p.at+from)
		if n == 0 && err != nil {
			return io.ErrUnexpectedEOF
		}
		if err := to(buf[:n]); err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}
