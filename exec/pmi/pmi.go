package pmi

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Limits that are told to clients; they are those of Flux and MPICH.
const (
	maxName  = 64
	maxKey   = 64
	maxValue = 1024
	// maxPending bounds what the tasks of one broker put between two barriers, in bytes: the exchange travels in one message.
	maxPending = 8 << 20
)

// Return codes of the protocol.
const (
	rcFail        = -1
	rcKey         = 4 // no such key
	rcKeyLength   = 5
	rcValueLength = 7
)

// Config of a server.
type Config struct {
	Name    string // of the key-value space: the job's id
	Size    int    // tasks of the whole job
	Tasks   []int  // ranks of those here
	Mapping string // PMI_process_mapping; "" = none
}

// Server is the state of one run's PMI on this broker. Not safe for concurrent use.
type Server struct {
	cfg     Config
	clients map[int]*client
	global  map[string]string
	local   map[string]string // keys "local::…", never exchanged
	pending map[string]string // put since the last barrier
	size    int               // bytes of pending
	waiting int               // clients in the barrier
}

type client struct {
	begun, finalized, waiting bool
	spawn                     bool // within a spawn command, which has many lines
}

// New makes a server.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, clients: map[int]*client{}, global: map[string]string{}, local: map[string]string{}, pending: map[string]string{}}
	for _, t := range cfg.Tasks {
		s.clients[t] = &client{}
	}
	if cfg.Mapping != "" && len(cfg.Mapping) <= maxValue {
		s.global["PMI_process_mapping"] = cfg.Mapping
	}
	return s
}

// Result is what follows from a line.
type Result struct {
	Reply string   // to the task, with its newline; "" = none
	Wait  bool     // the task is in the barrier: its answer is Barrier when Release has been called
	Fence bool     // all tasks here are in the barrier: exchange Pairs, then call Release
	Pairs []string // key, value, key, value, …
	Close bool     // nothing more will come from this task
	Abort *Abort   // the task asks for the job's end
	Wrong string   // the task breaks the protocol; hang up
}

// Abort is what a task says when it ends the job.
type Abort struct {
	Code    int
	Message string
}

// Barrier is the answer to tasks in a barrier when it has been released.
const Barrier = "cmd=barrier_out rc=0\n"

// Line takes one line of a task, without its newline.
func (s *Server) Line(task int, line string) Result {
	c := s.clients[task]
	if c == nil {
		return wrong("task %d is not of this run", task)
	}
	if c.spawn {
		if strings.TrimSpace(line) != "endcmd" {
			return Result{}
		}
		c.spawn = false
		return reply("spawn_result", rcFail, "msg=spawn is not supported")
	}
	if strings.HasPrefix(strings.TrimSpace(line), "mcmd=") {
		c.spawn = true
		return Result{}
	}
	words := parse(line)
	cmd := words["cmd"]
	if cmd == "init" {
		return s.onInit(c, words)
	}
	if !c.begun {
		return wrong("%q came before init", clip(cmd))
	}
	return s.command(c, cmd, words)
}

func (s *Server) onInit(c *client, words map[string]string) Result {
	version, _ := strconv.Atoi(words["pmi_version"])
	sub, _ := strconv.Atoi(words["pmi_subversion"])
	if version != 1 || sub < 1 {
		return reply("response_to_init", rcFail, "pmi_version=1 pmi_subversion=1")
	}
	c.begun = true
	return reply("response_to_init", 0, "pmi_version=1 pmi_subversion=1")
}

func (s *Server) command(c *client, cmd string, words map[string]string) Result {
	switch cmd {
	case "get_maxes":
		return reply("maxes", 0, fmt.Sprintf("kvsname_max=%d keylen_max=%d vallen_max=%d", maxName, maxKey, maxValue))
	case "get_universe_size":
		return reply("universe_size", 0, fmt.Sprintf("size=%d", s.cfg.Size))
	case "get_appnum":
		return reply("appnum", 0, "appnum=0")
	case "get_my_kvsname":
		return reply("my_kvsname", 0, "kvsname="+s.cfg.Name)
	case "put":
		return reply("put_result", s.put(words), "")
	case "get":
		return s.get(words)
	case "barrier_in":
		return s.barrier(c)
	case "finalize":
		c.finalized = true
		return Result{Reply: "cmd=finalize_ack rc=0\n", Close: true}
	case "abort":
		return abort(words)
	case "publish_name":
		return reply("publish_result", rcFail, "msg=publishing names is not supported")
	case "unpublish_name":
		return reply("unpublish_result", rcFail, "msg=publishing names is not supported")
	case "lookup_name":
		return reply("lookup_result", rcFail, "msg=publishing names is not supported")
	}
	return wrong("%q is not a command of PMI-1", clip(cmd))
}

func (s *Server) put(words map[string]string) int {
	key, value := words["key"], words["value"]
	switch {
	case words["kvsname"] != s.cfg.Name || key == "":
		return rcFail
	case len(key) > maxKey:
		return rcKeyLength
	case len(value) > maxValue:
		return rcValueLength
	case s.size+len(key)+len(value) > maxPending:
		return rcFail
	}
	s.size += len(key) + len(value)
	if strings.HasPrefix(key, "local::") {
		s.local[key] = value
	} else {
		s.pending[key] = value
	}
	return 0
}

// get looks in what is of this node alone, what was put here since the last barrier, and what all have.
func (s *Server) get(words map[string]string) Result {
	if words["kvsname"] != s.cfg.Name {
		return reply("get_result", rcFail, "msg=unknown kvsname")
	}
	for _, m := range []map[string]string{s.local, s.pending, s.global} {
		if v, ok := m[words["key"]]; ok {
			return reply("get_result", 0, "value="+v)
		}
	}
	return reply("get_result", rcKey, "")
}

func (s *Server) barrier(c *client) Result {
	if c.waiting {
		return wrong("barrier_in came twice")
	}
	c.waiting = true
	s.waiting++
	if s.waiting < len(s.clients) {
		return Result{Wait: true}
	}
	pairs := make([]string, 0, 2*len(s.pending))
	for _, k := range sortedKeys(s.pending) {
		pairs = append(pairs, k, s.pending[k])
	}
	return Result{Wait: true, Fence: true, Pairs: pairs}
}

// Release ends the barrier that all tasks here are in: all get the answer Barrier, and see what pairs holds.
func (s *Server) Release(pairs []string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		s.global[pairs[i]] = pairs[i+1]
	}
	clear(s.pending)
	s.size, s.waiting = 0, 0
	for _, k := range sortedKeys(s.local) {
		s.size += len(k) + len(s.local[k])
	}
	for _, c := range s.clients {
		c.waiting = false
	}
}

// Unfinished tells whether a task uses PMI and has not finalized: when it dies so, the others may wait for it for ever.
func (s *Server) Unfinished(task int) bool {
	c := s.clients[task]
	return c != nil && c.begun && !c.finalized
}

func abort(words map[string]string) Result {
	text := words["exitcode"]
	if text == "" {
		text = words["exit_code"]
	}
	code, err := strconv.Atoi(text)
	if err != nil {
		code = 1
	}
	return Result{Abort: &Abort{code, clip(words["error_msg"])}, Close: true}
}

func reply(cmd string, rc int, rest string) Result {
	line := fmt.Sprintf("cmd=%s rc=%d", cmd, rc)
	if rest != "" {
		line += " " + rest
	}
	return Result{Reply: line + "\n"}
}

func wrong(format string, args ...any) Result { return Result{Wrong: fmt.Sprintf(format, args...)} }

// parse reads "key=word key=word … value=anything". The last key of those that take free text gets the rest of the line.
func parse(line string) map[string]string {
	words := map[string]string{}
	rest := strings.TrimSpace(line)
	for rest != "" {
		key, after, found := strings.Cut(rest, "=")
		if !found {
			break
		}
		if key == "value" || key == "error_msg" {
			words[key] = after
			break
		}
		word, more, _ := strings.Cut(after, " ")
		words[key] = word
		rest = strings.TrimSpace(more)
	}
	return words
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func clip(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
