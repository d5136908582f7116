package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/overlay/board"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/outer"
	"github.com/frond-hpc/frond/overlay/pmi"
	"github.com/frond-hpc/frond/resource/idset"
	"golang.org/x/sys/unix"
)

// crew are the processes that one launcher has started together, as `srun --mpi=pmi2 frond start`, and that talk by PMI or by files: number 0 becomes the supervisor
// with the leader, the first process on each other node a broker, and the rest wait. Each puts a card with a key; when all are there, number 0
// seals the ticket for those that become brokers.
type crew struct {
	talk  talk
	rank  int // of this process
	key   pmi.Key
	cards []card
	many  bool // nothing says what a node is: each process becomes a broker, with its part of its host
	said  bool // number 0 has told the others how it goes on
}

// talk is how the processes of a crew talk. What is put is known to all after the next barrier.
type talk interface {
	Put(key, value string) error
	PutLong(key, value string) error
	Get(key string) (string, error)
	GetLong(key string) (string, error)
	Barrier() error
	Close() error
}

// card is what a process of a crew says of itself.
type card struct {
	Node string `json:"node"`           // as the scheduler calls it, else the host
	CPUs int    `json:"cpus,omitempty"` // granted to the launch on its node, as the scheduler counts; 0 = unknown
	Key  string `json:"key"`
	Boot string `json:"boot"` // of its host
	Mask string `json:"mask"` // cpus on which it may run
}

// crewLimit is how long the processes of a launch wait for each other: a launcher starts them at the same time.
const crewLimit = 30 * time.Second

const (
	crewCard = "frond-card" // .RANK: a card
	crewSeal = "frond-seal" // .RANK: a ticket
	crewFail = "frond-fail" // why there is none; "-" = there is
)

// errNoCrew says that PMI is not there, or not to be believed.
type errNoCrew string

// Error says why.
func (e errNoCrew) Error() string { return string(e) }

// mayCrew tells why PMI cannot be used, by the environment alone; an empty reason: there is none.
func (o *startOptions) mayCrew(e *env, procs int) error {
	size := e.getenv("PMI_SIZE")
	if size == "" || e.getenv("PMI_FD") == "" && e.getenv("PMI_PORT") == "" {
		return errNoCrew("")
	}
	if n, err := strconv.Atoi(size); err != nil || n != procs {
		return errNoCrew(fmt.Sprintf("PMI says that %s processes were started, the scheduler says %d: PMI is not used", size, procs))
	}
	return nil
}

// planStep is for one of several tasks that srun has started: it finds the others, if it can.
func (o *startOptions) planStep(e *env, p *launchPlan) error {
	a := p.alloc
	if n := len(a.Nodes); a.Procs > n {
		p.notes = append(p.notes, fmt.Sprintf("%d tasks were started on %d nodes: one on each becomes the broker, the others wait. srun -N %d -n %d --ntasks-per-node=1 starts as many as are needed",
			a.Procs, n, n, n))
	}
	if o.dryRun {
		return nil
	}
	c, err := o.newCrew(e, a.Procs)
	var none errNoCrew
	switch {
	case err == nil:
		p.crew = c
		a.Regrant(c.nodes())
		a.Here, a.Proc = 0, c.rank
	case !errors.As(err, &none):
		return err
	case none != "":
		p.notes = append(p.notes, none.Error())
	}
	if a.Proc == 0 && a.CPUs != nil && a.Here >= 0 {
		widen(a.CPUs[a.Here])
	}
	return nil
}

// newCrew gathers the crew; it returns when all are there. The scheduler says that procs were started.
func (o *startOptions) newCrew(e *env, procs int) (*crew, error) {
	if err := o.mayCrew(e, procs); err != nil {
		return nil, err
	}
	client, err := pmi.Open(e.getenv, min(crewLimit, o.startLimit()))
	if err != nil {
		return nil, errNoCrew(fmt.Sprintf("PMI is not used: %v", err))
	}
	return gather(e, client, client.Rank, client.Size)
}

// gather has this process meet the others.
func gather(e *env, t talk, rank, size int) (c *crew, err error) {
	c = &crew{talk: t, rank: rank}
	if c.key, err = pmi.NewKey(); err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	me := card{Node: host, Key: c.key.Public(), Boot: boot.BootID(), Mask: affinity()}
	if n := e.getenv("SLURMD_NODENAME"); n != "" {
		me.Node = n
	}
	me.CPUs, _ = strconv.Atoi(e.getenv("SLURM_CPUS_ON_NODE"))
	text, err := json.Marshal(me)
	if err != nil {
		return nil, err
	}
	if err := t.PutLong(crewKey(crewCard, rank), string(text)); err != nil {
		return nil, err
	}
	if err := t.Barrier(); err != nil {
		return nil, fmt.Errorf("this is process %d of %d, and not all of them came to the meeting: one has ended, or did not start (%w)", rank, size, err)
	}
	c.cards = make([]card, size)
	for i := range c.cards {
		text, err := t.GetLong(crewKey(crewCard, i))
		if err == nil {
			err = json.Unmarshal([]byte(text), &c.cards[i])
		}
		if err != nil {
			return nil, fmt.Errorf("process %d of the launch: is it another version of frond? %w", i, err)
		}
	}
	return c, nil
}

func crewKey(what string, rank int) string { return what + "." + strconv.Itoa(rank) }

// first tells whether a process becomes a broker: the first one on its node.
func (c *crew) first(rank int) bool {
	me := c.cards[rank]
	return c.many || slices.IndexFunc(c.cards, func(o card) bool { return o.Node == me.Node && o.Boot == me.Boot }) == rank
}

// nodes are the names of all nodes, that of number 0 first, and how many cpus were granted on each; nil if that is not known.
func (c *crew) nodes() (names []string, cpus []int) {
	known := true
	for i, o := range c.cards {
		if c.first(i) {
			names, cpus = append(names, unlike(names, o.Node)), append(cpus, o.CPUs)
			known = known && o.CPUs > 0
		}
	}
	if !known {
		cpus = nil
	}
	return names, cpus
}

// unlike makes a name that is none of those that there are: name.1, name.2 where it is taken.
func unlike(names []string, name string) string {
	base := name
	for k := 1; slices.Contains(names, name); k++ {
		name = base + "." + strconv.Itoa(k)
	}
	return name
}

// brokers are the processes that become one.
func (c *crew) brokers() (ranks []int) {
	for i := range c.cards {
		if c.first(i) {
			ranks = append(ranks, i)
		}
	}
	return ranks
}

// part says which part of its host broker i has, and of how many: those on one host that may run on the same cpus share them. What each is bound to by itself
// it has alone.
func (c *crew) part(i int) (part, parts int) {
	if !c.many {
		return 0, 1
	}
	me := c.cards[i]
	for k, o := range c.cards {
		if o.Boot == me.Boot && o.Node == me.Node && o.Mask == me.Mask {
			if k < i {
				part++
			}
			parts++
		}
	}
	return part, parts
}

// affinity is on which cpus this process may run, as text.
func affinity() string {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return ""
	}
	var cpus idset.Set
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			cpus.Add(i)
		}
	}
	return cpus.String() // PMI allows no blanks
}

// tell is number 0's word to the others: the ticket for those that become brokers, or why there is no instance.
func (c *crew) tell(ticket string, why error) error {
	if c.said {
		return nil
	}
	c.said = true
	word := "-"
	if why != nil {
		word = "failed"
	}
	err := c.talk.Put(crewFail, word)
	for i := 1; i < len(c.cards) && why == nil && err == nil; i++ {
		if c.first(i) {
			var sealed string
			if sealed, err = pmi.Seal(c.cards[i].Key, []byte(ticket)); err == nil {
				err = c.talk.PutLong(crewKey(crewSeal, i), sealed)
			}
		}
	}
	if err == nil {
		err = c.talk.Barrier()
	}
	if err == nil {
		err = c.talk.Close()
	}
	return err
}

// errNobody: number 0 says why there is no instance.
var errNobody = &exitError{Code: 1}

// hear is what another process hears from number 0: its ticket; empty: it is not the first one on its node.
func (c *crew) hear() (ticket string, err error) {
	rank := c.rank
	if err := c.talk.Barrier(); err != nil {
		return "", fmt.Errorf("process %d of the launch waited for number 0, which starts the instance: %w", rank, err)
	}
	defer c.talk.Close()
	word, err := c.talk.Get(crewFail)
	switch {
	case err != nil:
		return "", err
	case word != "-":
		return "", errNobody
	case !c.first(rank):
		return "", nil
	}
	sealed, err := c.talk.GetLong(crewKey(crewSeal, rank))
	if err != nil {
		return "", err
	}
	text, err := c.key.Open(sealed)
	if err != nil {
		return "", fmt.Errorf("open the ticket: %w", err)
	}
	return string(text), nil
}

// serve is the life of another process than number 0: it becomes a broker, or waits for the end of the instance.
func (c *crew) serve(e *env, o *startOptions, step string) error {
	ticket, err := c.hear()
	if err != nil {
		return err
	}
	if ticket == "" {
		return o.waitForStep(e, step)
	}
	if granted := c.cards[c.rank].CPUs; granted > 0 {
		widen(granted)
	}
	number := slices.Index(c.brokers(), c.rank) - 1 // of those that number 0 waits for
	environ := append(outer.WithoutTask(brokerEnviron(os.Environ())), boot.TicketEnv+"="+ticket)
	return syscall.Exec("/proc/self/exe", []string{"frond", "broker", "--join", "--rank=" + strconv.Itoa(number)}, environ)
}

// crewWay is the way of brokers that are there already and wait for the ticket.
type crewWay struct{ c *crew }

func (w crewWay) commands(ticket string) ([]launched, error) { return nil, w.c.tell(ticket, nil) }

func (w crewWay) words() []string {
	return []string{"nothing more: the processes that were started become the brokers, and get the ticket by " + w.label()}
}

func (w crewWay) label() string {
	if w.c != nil {
		if _, ok := w.c.talk.(*board.Board); ok {
			return "files"
		}
	}
	return "pmi"
}

func (w crewWay) close() {}

// away removes what the processes have talked by.
func (c *crew) away() {
	if b, ok := c.talk.(*board.Board); ok && c.rank == 0 {
		b.Remove()
	}
}

// widen lets this process run on all cpus that it may, if it is bound to fewer than were granted to the launch on its node: launchers bind each
// process to a part of them, but a broker has them all to give.
func widen(granted int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var now, all unix.CPUSet
	if unix.SchedGetaffinity(0, &now) != nil || now.Count() >= granted {
		return
	}
	for cpu := range len(all) * 64 {
		all.Set(cpu)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads { // a thread that is made meanwhile may miss it: those that matter are here
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.SchedSetaffinity(tid, &all) // the kernel cuts it to the cpuset
		}
	}
}
