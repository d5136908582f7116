package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/frond-hpc/frond/overlay/boot"
)

// prepare makes everything that brokers find when they start: run directory, certificate, resources, boot file.
func (s *supervisor) prepare() error {
	if _, err := s.o.leaseSeconds(); err != nil {
		return err
	}
	parts, err := s.o.deal()
	if err != nil {
		return err
	}
	if err := s.makeRunDir(); err != nil {
		return err
	}
	if s.info, err = s.o.newInfo(s.e, filepath.Base(s.dir.Path), s.dir.Path); err != nil {
		return err
	}
	s.enclosing()
	for rank, data := range parts {
		if err := s.info.SaveResources(rank, data); err != nil {
			return err
		}
	}
	if err := makeCert(s.info); err != nil {
		return err
	}
	if s.live, err = newLiveness(); err != nil {
		return err
	}
	if err := s.listen(); err != nil {
		return err
	}
	s.environ = brokerEnviron(os.Environ())
	s.makeEntry()
	return s.info.Save()
}

// makeRunDir makes the run directory under the wanted name, or under a random one that is free. What dead instances left
// is cleared on the way.
func (s *supervisor) makeRunDir() error {
	name, tries := s.o.name, 1
	if name == "" {
		tries = 100
	}
	var err error
	for range tries {
		if s.o.name == "" {
			name = boot.RandomName()
		}
		base := boot.Base(s.e.getenv, name, s.o.brokers)
		if s.dir, err = boot.CreateRunDir(base, name, s.o.brokers); err == nil {
			go boot.Sweep(base)
			return nil
		}
		if !errors.Is(err, boot.ErrRunning) {
			return err
		}
	}
	return fmt.Errorf("%w; 'frond list' shows it", err)
}

// makeEntry is what the registry will say of this instance.
func (s *supervisor) makeEntry() {
	me := boot.Self()
	s.entry = boot.Entry{Name: s.info.Name, URI: s.info.URI(0), Host: me.Host, BootID: me.BootID, PIDNS: me.PIDNS, PID: me.PID,
		Ticks: me.Ticks, Start: s.info.Start, Size: s.info.Size, RunDir: s.info.RunDir, Outer: outerAllocation(s.e.getenv)}
	if s.listener != nil {
		s.entry.TCP = s.listener.uri
	}
	if !s.info.TempState {
		s.entry.StateDir = s.info.StateDir
	}
}

// enclosing notes the instance in whose job this one was started, if any.
func (s *supervisor) enclosing() {
	uri, job := s.e.getenv("FROND_URI"), s.e.getenv("FROND_JOB_ID")
	if uri == "" || job == "" {
		return
	}
	s.info.ParentURI, s.info.JobID, s.info.JobPath = uri, job, s.e.getenv("FROND_JOB_ID_PATH")
	s.info.Level = enclosingLevel(uri) + 1
}

// brokerEnviron is the environment of broker processes: that of the supervisor without what describes a job of an enclosing
// instance, which must not show up in tasks.
func brokerEnviron(environ []string) []string {
	var out []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "FROND_") && !strings.HasPrefix(name, "PMI_") || name == "FROND_HOME" {
			out = append(out, kv)
		}
	}
	return out
}
