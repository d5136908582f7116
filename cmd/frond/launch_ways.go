package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/outer"
)

// srunWay starts one broker on each of an allocation's nodes as one step of Slurm. The ticket is in the step's environment.
type srunWay struct {
	self  string // path of this program, which must be the same on all nodes
	nodes []string
}

func (w *srunWay) argv() []string { return outer.Srun(w.nodes, w.self, "broker", "--join") }

func (w *srunWay) commands(ticket string) []*exec.Cmd {
	argv := w.argv()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(outer.SrunEnviron(brokerEnviron(os.Environ())), boot.TicketEnv+"="+ticket)
	return []*exec.Cmd{cmd}
}

func (w *srunWay) words() []string { return []string{typedLine(w.argv())} }

func (w *srunWay) name() string { return "slurm" }

// hostWay starts the broker of each host by a command of its own: a prefix in which {host} stands for the host's name, and then the
// broker's command line. The ticket is its standard input.
type hostWay struct {
	kind   string // ssh or exec
	prefix []string
	self   []string
	hosts  []string
}

func (w *hostWay) argv(i int, host string) []string {
	var argv []string
	for _, a := range w.prefix {
		argv = append(argv, strings.ReplaceAll(a, "{host}", host))
	}
	return append(append(argv, w.self...), "broker", "--join", "--ticket=-", "--rank="+strconv.Itoa(i))
}

func (w *hostWay) commands(ticket string) []*exec.Cmd {
	cmds := make([]*exec.Cmd, len(w.hosts))
	for i, host := range w.hosts {
		argv := w.argv(i, host)
		cmds[i] = exec.Command(argv[0], argv[1:]...)
		cmds[i].Env = outer.BrokerEnviron(brokerEnviron(os.Environ()))
		cmds[i].Stdin = strings.NewReader(ticket + "\n")
	}
	return cmds
}

func (w *hostWay) words() []string {
	var lines []string
	for i, h := range w.hosts {
		lines = append(lines, typedLine(w.argv(i, h)))
	}
	return lines
}

func (w *hostWay) name() string { return w.kind }

// typedLine writes a command line as one would type it.
func typedLine(argv []string) string {
	words := make([]string, len(argv))
	for i, a := range argv {
		words[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n\"'\\$&|;<>()*?[]{}~#`") {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
