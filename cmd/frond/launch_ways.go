package main

import (
	"os"
	"os/exec"
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

func (w *srunWay) commands(ticket string) ([]launched, error) {
	argv := w.argv()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(outer.SrunEnviron(brokerEnviron(os.Environ())), boot.TicketEnv+"="+ticket)
	return []launched{{Cmd: cmd, slots: allOf(w.nodes), lost: outer.SrunLost}}, nil
}

func (w *srunWay) words() []string { return []string{typedLine(w.argv())} }

func (w *srunWay) label() string { return "slurm" }

func (w *srunWay) close() {}

// allOf is the numbers of all of them.
func allOf(hosts []string) []int {
	all := make([]int, len(hosts))
	for i := range all {
		all[i] = i
	}
	return all
}

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
