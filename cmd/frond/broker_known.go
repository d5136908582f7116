package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/boot"
)

// memberDead is the state of a member whose process is known to be dead, in the store and for the job service.
var memberDead = overlay.Gone.String()

// judgeMembers marks those brokers of the leader before as dead of which this host knows that they are: they ran here before the
// last boot, or their pid is gone. What ran there need not wait for a lease. Brokers of another run directory have lost their
// supervisor and are about to end: they get until limit.
func judgeMembers(members []job.MemberRow, rundir string, limit time.Duration) {
	host, _ := os.Hostname()
	bootID := boot.BootID()
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		leaving := false
		for i := range members {
			m := &members[i]
			if m.Host != host {
				continue
			}
			if m.BootID != bootID || !isBroker(m.PID, "") {
				m.State = memberDead
				continue
			}
			leaving = leaving || !isBroker(m.PID, rundir)
		}
		if !leaving || time.Now().After(end) {
			return
		}
	}
}

// isBroker tells whether pid is a broker process (of a child instance perhaps), and of that run directory unless it is empty.
func isBroker(pid int, rundir string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := strings.Split(string(line), "\x00")
	if err != nil || len(words) < 2 || filepath.Base(words[0]) != "frond" || words[1] != "broker" && words[1] != "child" {
		return false
	}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)) // its directory in the run directory
	return rundir == "" || err == nil && filepath.Dir(cwd) == rundir
}

// knownMembers tells the tree who was there under the leader before.
func knownMembers(members []job.MemberRow) []overlay.Member {
	var known []overlay.Member
	for _, m := range members {
		k := overlay.Member{Rank: m.Rank, UUID: m.UUID, State: overlay.Orphan, Parent: -1, Reason: "not back since the leader was restarted",
			Info: overlay.Info{Hostname: m.Host, BootID: m.BootID, PID: m.PID}}
		switch m.State {
		case memberDead:
			k.State, k.Reason = overlay.Gone, "its process is gone"
		case overlay.Left.String():
			k.State, k.Reason = overlay.Left, "left"
		}
		known = append(known, k)
	}
	return known
}
