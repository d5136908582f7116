package spawner

import (
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// Bare is what a plain C loop of posix_spawn and wait took.
type Bare struct {
	Elapsed  time.Duration
	SelfCPU  time.Duration // of the loop
	ChildCPU time.Duration // of the processes it ran
}

// BareLoop runs program n times, parallel at a time, from a C loop in a process of its own: the yardstick of the measurements.
func BareLoop(n, parallel int, program string) (Bare, error) {
	cmd := exec.Command(Executable)
	cmd.Args = []string{"frond: bare loop", strconv.Itoa(n), strconv.Itoa(parallel), program}
	out, err := cmd.Output()
	if err != nil {
		return Bare{}, fmt.Errorf("run bare loop: %w", err)
	}
	var elapsed, self, child float64
	if _, err := fmt.Sscan(string(out), &elapsed, &self, &child); err != nil {
		return Bare{}, fmt.Errorf("read bare loop's result: %w", err)
	}
	return Bare{seconds(elapsed), seconds(self), seconds(child)}, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
