package store

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// segments appends task output to the files of statedir/output. A file is begun by each opening of the directory, when the
// first output comes, and again when one is full; no file of an earlier opening is ever written to.
type segments struct {
	dir   string
	max   int64
	sync  bool
	f     *os.File
	num   int64
	size  int64  // of f, including buf
	buf   []byte // not yet written
	dirty bool   // f has data that is not synced
}

const segmentBuf = 256 << 10

func newSegments(dir string, o Options) *segments {
	s := &segments{dir: dir, max: o.segment, sync: !o.Temp}
	if s.max == 0 {
		s.max = 256 << 20
	}
	return s
}

// add appends data and returns where it will lie. It is durable, and may be read, after flush.
func (s *segments) add(data []byte) (num, pos int64, err error) {
	if s.f == nil || s.size >= s.max {
		if err := s.next(); err != nil {
			return 0, 0, err
		}
	}
	if len(s.buf)+len(data) > segmentBuf {
		if err := s.write(); err != nil {
			return 0, 0, err
		}
	}
	pos = s.size
	s.buf = append(s.buf, data...)
	s.size += int64(len(data))
	return s.num, pos, nil
}

// flush makes what was added durable. After a failed sync the kernel may have dropped data that it then calls clean, so the file
// is not used again.
func (s *segments) flush() error {
	if s.f == nil {
		return nil
	}
	if err := s.write(); err != nil {
		return err
	}
	if !s.sync || !s.dirty {
		return nil
	}
	if err := s.f.Sync(); err != nil {
		s.abandon()
		return fmt.Errorf("sync task output: %w", err)
	}
	s.dirty = false
	return nil
}

func (s *segments) write() error {
	if len(s.buf) == 0 {
		return nil
	}
	s.dirty = true
	_, err := s.f.WriteAt(s.buf, s.size-int64(len(s.buf)))
	if err != nil {
		return fmt.Errorf("write task output: %w", err)
	}
	if s.buf = s.buf[:0]; cap(s.buf) > 4*segmentBuf {
		s.buf = nil
	}
	return nil
}

// next begins a new file.
func (s *segments) next() error {
	if err := s.flush(); err != nil {
		return err
	}
	num, err := lastSegment(s.dir)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(segmentPath(s.dir, num+1), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("begin output segment: %w", err)
	}
	if s.sync {
		if err := syncDir(s.dir); err != nil {
			f.Close()
			return fmt.Errorf("begin output segment: %w", err)
		}
	}
	s.abandon()
	s.f, s.num = f, num+1
	return nil
}

// mark and back take back what was added since mark by a transaction that was not begun to be committed, and free its space. mark is
// called between transactions, when all is flushed.
func (s *segments) mark() segmentMark { return segmentMark{s.num, s.size} }

type segmentMark struct{ num, size int64 }

func (s *segments) back(m segmentMark) {
	if s.f == nil {
		return
	}
	s.buf = s.buf[:0]
	if m.num != s.num {
		m.size = 0 // a file begun since
	}
	s.size = m.size
	s.f.Truncate(s.size)
}

func (s *segments) abandon() {
	if s.f != nil {
		s.f.Close()
	}
	s.f, s.size, s.buf, s.dirty = nil, 0, s.buf[:0], false
}

func segmentPath(dir string, num int64) string {
	return filepath.Join(dir, fmt.Sprintf("%06d.seg", num))
}

// lastSegment is the largest number of a segment in dir, 0 if there is none.
func lastSegment(dir string) (int64, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("read output segments: %w", err)
	}
	var last int64
	for _, e := range names {
		if digits, ok := strings.CutSuffix(e.Name(), ".seg"); ok {
			n, _ := strconv.ParseInt(digits, 10, 64)
			last = max(last, n)
		}
	}
	return last, nil
}

// segmentReader reads pieces of segments and keeps the file of the last one open.
type segmentReader struct {
	dir string
	num int64
	f   *os.File
}

func (r *segmentReader) read(num, pos, n int64) ([]byte, error) {
	if r.f == nil || r.num != num {
		r.close()
		f, err := os.Open(segmentPath(r.dir, num))
		if err != nil {
			return nil, fmt.Errorf("read task output: %w", err)
		}
		r.f, r.num = f, num
	}
	data := make([]byte, n)
	if _, err := r.f.ReadAt(data, pos); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read task output in %s at %d: %w", r.f.Name(), pos, err)
	}
	return data, nil
}

func (r *segmentReader) close() {
	if r.f != nil {
		r.f.Close()
	}
	r.f = nil
}
