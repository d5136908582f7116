package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/outer"
)

// passing is how a ticket gets to brokers: never on a command line.
type passing int

const (
	byStdin   passing = iota
	byFile            // of mode 0600 in FROND_HOME, which must be the same on all hosts
	byEnviron         // and by a file too, where one can be made, for launchers that pass the environment on only at some sites
)

// recipe says how one kind of launcher starts brokers on other hosts.
type recipe struct {
	name    string // of --launcher
	program string // that it needs in PATH
	kinds   string // schedulers in whose allocations it is used by itself, separated by blanks
	what    string // for people: what it is
	all     bool   // one command starts the brokers of all hosts; else a command for each
	ticket  passing
	tree    bool                               // by ssh: hosts that are reached start others (launch_tree.go)
	argv    func(w *recipeWay, i int) []string // what stands before the broker's command line; i is the host, unless all
}

// recipes in the order in which they are tried. What each does is from the manual pages named in docs/allocations.md.
var recipes = []recipe{
	{name: "blaunch", program: "blaunch", kinds: "lsf", what: "LSF's launcher", all: true, ticket: byEnviron, argv: func(w *recipeWay, _ int) []string {
		return []string{"blaunch", "-z", strings.Join(w.hosts, " ")}
	}},
	{name: "jsrun", program: "jsrun", what: "IBM's Job Step Manager", all: true, ticket: byEnviron, argv: func(w *recipeWay, _ int) []string {
		return []string{"jsrun", "-n", strconv.Itoa(len(w.hosts)), "-r", "1", "-a", "1", "-c", "ALL_CPUS", "-g", "ALL_GPUS", "-b", "none"}
	}},
	{name: "pbs_tmrsh", program: "pbs_tmrsh", kinds: "pbs", what: "PBS's task manager", ticket: byFile, argv: func(w *recipeWay, i int) []string {
		return []string{"pbs_tmrsh", w.hosts[i]}
	}},
	{name: "pbsdsh", program: "pbsdsh", kinds: "pbs", what: "PBS's task manager", ticket: byFile, argv: func(w *recipeWay, i int) []string {
		return []string{"pbsdsh", "-n", strconv.Itoa(w.slots[i]), "--"}
	}},
	{name: "qrsh", program: "qrsh", kinds: "sge", what: "Grid Engine's tight integration, which needs control_slaves TRUE in the parallel environment", ticket: byStdin,
		argv: func(w *recipeWay, i int) []string { return []string{"qrsh", "-inherit", w.hosts[i]} }},
	{name: "mpiexec", program: "mpiexec", what: "a launcher of parallel programs", all: true, ticket: byEnviron, argv: func(w *recipeWay, _ int) []string {
		return mpiexec(w.flavour, w.hosts)
	}},
	{name: "ssh", program: "ssh", kinds: "lsf pbs sge", what: "without a password", ticket: byStdin, tree: true},
}

// execRecipe is that of --launcher=exec:COMMAND.
func execRecipe(command string) *recipe {
	words := strings.Fields(command)
	return &recipe{name: "exec", program: words[0], what: "the command that --launcher says", ticket: byStdin, argv: func(w *recipeWay, i int) []string {
		var argv []string
		for _, a := range words {
			argv = append(argv, strings.ReplaceAll(a, "{host}", w.hosts[i]))
		}
		return argv
	}}
}

func findRecipe(name string) *recipe {
	for i := range recipes {
		if recipes[i].name == name {
			return &recipes[i]
		}
	}
	return nil
}

// chooseRecipe is for an allocation: the first whose program is there.
func chooseRecipe(a *outer.Allocation) (r *recipe, why string, err error) {
	if a.JSM {
		return findRecipe("jsrun"), "it reaches the nodes from a launch node", nil
	}
	var tried []string
	for i, r := range recipes {
		if !strings.Contains(" "+r.kinds+" ", " "+a.Kind+" ") {
			continue
		}
		tried = append(tried, r.program)
		if _, err := exec.LookPath(r.program); err == nil {
			if len(tried) > 1 {
				why = fmt.Sprintf("not in PATH: %s", strings.Join(tried[:len(tried)-1], ", "))
			}
			return &recipes[i], why, nil
		}
	}
	return nil, "", fmt.Errorf("none of %s is in PATH: one is needed to start brokers on the other nodes of the allocation; with --launcher=local they are left alone", strings.Join(tried, ", "))
}

// mpiexec begins a command line that starts one process on each of the hosts and binds it to nothing, in the words of one of its makers: MPICH's hydra (and
// Intel MPI), Open MPI, or HPE Cray's PALS.
func mpiexec(flavour string, hosts []string) []string {
	n, list := strconv.Itoa(len(hosts)), strings.Join(hosts, ",")
	switch flavour {
	case "hydra":
		return []string{"mpiexec", "-n", n, "-ppn", "1", "-hosts", list, "-bind-to", "none"}
	case "openmpi":
		return []string{"mpiexec", "-n", n, "--host", list, "--map-by", "ppr:1:node", "--bind-to", "none", "-x", boot.TicketEnv}
	}
	return []string{"mpiexec", "-n", n, "--ppn", "1", "--hosts", list, "--cpu-bind", "none"}
}

// flavourOf tells by what `mpiexec --version` prints whose it is.
func flavourOf(version string) string {
	switch {
	case strings.Contains(version, "HYDRA"), strings.Contains(version, "Intel(R) MPI"):
		return "hydra"
	case strings.Contains(version, "Open MPI"), strings.Contains(version, "OpenRTE"):
		return "openmpi"
	}
	return "pals"
}

// recipeWay starts brokers on hosts after a recipe.
type recipeWay struct {
	*recipe
	self    string // path of this program, which must be the same on all hosts
	hosts   []string
	slots   []int  // of each host, for launchers that count slots
	flavour string // of mpiexec
	order   *treeOrder
	file    string // with the ticket; empty = none
	why     string // for people: why this one
}

func (w *recipeWay) line(i int) []string {
	if w.tree {
		return w.order.line(treeHost{i, w.hosts[i]})
	}
	argv := append(w.argv(w, i), w.self, "broker", "--join")
	switch {
	case w.ticket == byStdin:
		argv = append(argv, "--ticket=-")
	case w.file != "":
		argv = append(argv, "--ticket="+w.file)
	}
	if !w.all {
		argv = append(argv, "--rank="+strconv.Itoa(i))
	}
	return argv
}

func (w *recipeWay) commands(ticket string) ([]launched, error) {
	if err := w.leave(ticket); err != nil {
		return nil, err
	}
	all := allOf(w.hosts)
	switch {
	case w.tree:
		return w.more(ticket, all, false)
	case w.all:
		return []launched{{Cmd: w.command(ticket, 0), slots: all}}, nil
	}
	cmds := make([]launched, len(w.hosts))
	for i := range cmds {
		cmds[i] = launched{Cmd: w.command(ticket, i), slots: all[i : i+1], sure: true}
	}
	return cmds, nil
}

// more starts hosts, of a tree. Direct: each from here.
func (w *recipeWay) more(ticket string, hosts []int, direct bool) ([]launched, error) {
	var list []treeHost
	for _, i := range hosts {
		list = append(list, treeHost{i, w.hosts[i]})
	}
	fanout := w.order.Fanout
	if direct {
		fanout = len(list)
	}
	var out []launched
	for _, g := range shares(list, fanout) {
		cmd, err := w.order.command(ticket, g)
		if err != nil {
			return nil, err
		}
		cmd.Env = outer.BrokerEnviron(brokerEnviron(os.Environ()))
		l := launched{Cmd: cmd, sure: true}
		for _, h := range g {
			l.slots = append(l.slots, h.Index)
		}
		out = append(out, l)
	}
	return out, nil
}

func (w *recipeWay) command(ticket string, i int) *exec.Cmd {
	argv := w.line(i)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = brokerEnviron(os.Environ()) // it must find its scheduler's job
	switch w.ticket {
	case byEnviron:
		cmd.Env = append(cmd.Env, boot.TicketEnv+"="+ticket)
	case byStdin:
		cmd.Stdin = strings.NewReader(ticket + "\n")
	}
	return cmd
}

// leave writes the ticket where brokers elsewhere find it, if the recipe needs that.
func (w *recipeWay) leave(ticket string) (err error) {
	if w.ticket == byStdin {
		return nil
	}
	if w.file, err = boot.LeaveTicket(os.Getenv, ticket); err == nil || w.ticket == byEnviron { // where it is the second way
		return nil
	}
	return fmt.Errorf("%s passes neither the environment nor standard input on, so brokers read their ticket from a file in FROND_HOME, which all nodes must share: %w. "+
		"Set FROND_HOME to another directory, or use --launcher=ssh", w.name, err)
}

func (w *recipeWay) close() {
	if w.file != "" {
		os.Remove(w.file)
		w.file = ""
	}
}

func (w *recipeWay) label() string { return w.name }

func (w *recipeWay) words() []string {
	if w.ticket != byStdin {
		w.file = filepath.Join(boot.TicketDir(os.Getenv), "TICKET")
	}
	if w.all {
		return []string{typedLine(w.line(0))}
	}
	hosts, tail := len(w.hosts), ""
	if w.tree && hosts > w.order.Fanout {
		hosts = w.order.Fanout
		tail = fmt.Sprintf("and so on: from here %d of the %d hosts, which start the others in the same way", hosts, len(w.hosts))
	}
	var lines []string
	for i := range hosts {
		lines = append(lines, typedLine(w.line(i)))
	}
	if tail != "" {
		lines = append(lines[:1], tail)
	}
	return lines
}

// passes says how the ticket gets there.
func (w *recipeWay) passes() string {
	switch w.ticket {
	case byStdin:
		return "each broker reads it from standard input"
	case byFile:
		return "in a file of mode 0600, which goes when all brokers are there"
	}
	return "in the environment, and in a file of mode 0600, which goes when all brokers are there"
}
