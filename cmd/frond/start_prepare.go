package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/outer"
)

// prepare makes everything that brokers find when they start: run directory, certificate, resources, boot file.
func (s *supervisor) prepare() error {
	if _, err := s.o.leaseSeconds(); err != nil {
		return err
	}
	if err := s.makeRunDir(); err != nil {
		return err
	}
	var err error
	if s.info, err = s.o.newInfo(s.e, filepath.Base(s.dir.Path), s.dir.Path); err != nil {
		return err
	}
	parts, err := s.o.deal(s.plan)
	if err != nil {
		return err
	}
	if s.o.child == nil {
		s.enclosing()
	}
	for _, n := range s.plan.notes {
		s.say("%s", n)
	}
	for rank := range s.plan.local {
		if err := s.info.SaveResources(rank, parts[rank]); err != nil {
			return err
		}
	}
	if err := makeCert(s.info); err != nil {
		return err
	}
	if err := s.makeCrews(parts); err != nil {
		return err
	}
	if err := s.listen(); err != nil {
		return err
	}
	s.makeEntry()
	return s.info.Save()
}

// makeCrews makes what starts brokers: here, and on other hosts.
func (s *supervisor) makeCrews(parts [][]byte) error {
	live, err := newLiveness()
	if err != nil {
		return err
	}
	s.local = &localLauncher{info: s.info, size: s.plan.local, environ: outer.BrokerEnviron(brokerEnviron(os.Environ())), live: live, events: s.events, procs: map[int]*brokerProc{}}
	s.crews = []launcher{s.local}
	if c := s.o.child; c != nil {
		if s.o.statedir == "" { // else it can be restarted
			s.local.inside = s.e
		}
		s.link = newParentLink(c, s.info, s.events)
		s.crews = append(s.crews, s.link)
		return nil
	}
	if a := s.plan.around(); a != nil {
		s.info.Outer = a.ID
	}
	s.info.Step = s.plan.step
	if s.plan.way == nil {
		if s.plan.crew != nil {
			return s.plan.crew.tell("", nil)
		}
		return nil
	}
	s.info.Spread, s.info.Transport, s.info.Interface, s.info.Ports = true, boot.ZeroMQ, s.o.iface, s.o.ports
	if s.o.resources == "" {
		parts = nil // each host says what it has
	}
	if s.fleet, err = newFleet(s.info, s.plan.way, s.plan.local, s.plan.slots(s.o.oversub, parts), s.events); err != nil {
		return err
	}
	s.crews = append(s.crews, s.fleet)
	return nil
}

// makeRunDir makes the run directory under the wanted name, or under a random one that is free. What dead instances left
// is cleared on the way.
func (s *supervisor) makeRunDir() error {
	if s.o.child != nil {
		var err error
		s.dir, err = s.o.child.runDir(s.plan.size())
		return err
	}
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
		if s.dir, err = boot.CreateRunDir(base, name, s.plan.local); err == nil {
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

// neighbours tells of other instances in the same allocation: each offers all of it, and knows nothing of the other's jobs.
func (s *supervisor) neighbours() {
	if s.entry.Outer == "" || s.info.ParentURI != "" {
		return
	}
	entries, err := s.reg.List()
	if err != nil {
		return // who cannot read the registry is told when it is written
	}
	for _, e := range entries {
		if e.Outer == s.entry.Outer && e.Name != s.entry.Name && e.Live(boot.Self()) == boot.Alive {
			s.say("instance %s is in this allocation, too (%s): both offer all of its cores, so jobs of both may share them; 'frond list' shows both", e.Name, e.Outer)
		}
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
		if !strings.HasPrefix(name, "FROND_") && !strings.HasPrefix(name, "PMI_") || name == "FROND_HOME" || name == "FROND_RUNDIR" {
			out = append(out, kv)
		}
	}
	return out
}
