package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// trimMemory lets go of pages of program and libraries that only the start has needed: the kernel maps file pages around every
// fault, which for this binary is most of it. They are in the page cache and come back when they are touched. Only mappings
// without a private page are given back (smaps: Anonymous 0), so nothing that was written can be lost. (Measured: 17 MB become 12.)
func trimMemory() {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return // then it stays as it is
	}
	defer f.Close()
	var at mapping
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		switch {
		case strings.HasPrefix(line, "Anonymous:"):
			at.clean = strings.Fields(line)[1] == "0"
		case strings.HasPrefix(line, "VmFlags:"):
			at.drop()
		case !strings.Contains(strings.SplitN(line, " ", 2)[0], ":"):
			at = parseMapping(line)
		}
	}
}

// trimDelay is how long after its start a broker is trimmed: until then its first jobs may come.
const trimDelay = 300 * time.Millisecond

// mapping is one entry of smaps.
type mapping struct {
	from, to uintptr
	file     bool // of a file, and not writable
	clean    bool // without private pages
}

func parseMapping(line string) mapping {
	var m mapping
	var perm string
	fmt.Sscanf(line, "%x-%x %s", &m.from, &m.to, &perm)
	m.file = strings.HasPrefix(perm, "r-") && strings.HasSuffix(perm, "p") && strings.Contains(line, " /")
	return m
}

func (m mapping) drop() {
	if m.file && m.clean && m.to > m.from {
		unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}
