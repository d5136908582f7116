// Package jobspec holds what a user asks for: the jobspec (Flux RFC 14/25 V1 subset), job ids,
// durations, constraints, states and task layouts, with their parsers and validation. It is pure, and of ours it imports only the
// leaf formats idset and hostlist, which constraints are written in.
package jobspec

// Jobspec is a parsed, validated job request. It is immutable once built: services share pointers to it.
// Its JSON form is Flux's jobspec V1 (see Parse and (*Jobspec).JSON).
type Jobspec struct {
	Request     Request           // what resources
	Command     []string          // argv of every task, at least one element; may hold {cc} and {{…}} templates
	TaskCount   TaskCount         // how many tasks
	Duration    float64           // time limit in seconds; 0 = none
	MinDuration float64           // start with a shorter limit, but no less than this, where that helps (system.min-duration); 0 = Duration
	Cwd         string            // absolute; empty = the broker's rundir
	Environment map[string]string // nil when it travels beside the jobspec (EnvRef of broker/api)
	EnvUnset    []string          // variables that were null in the JSON form
	Name        string            // attributes.system.job.name; default: basename of Command[0]
	Queue       string
	Constraint  *Constraint // nil = none
	Shell       ShellOptions
	Test        *TestExec // non-nil: mock execution (attributes.system.exec.test)
	Rerun       bool      // system.rerun (frond's own attribute); true = run again when its node is lost. Default true.
	Retries     int       // system.retries (frond's own): how often a task that failed runs again
	Array       ArrayOptions
	Files       []File         // brought along, sorted by path
	User        map[string]any // attributes.user
	Instance    *Instance      // the job is an instance, its tasks are brokers (system.instance, frond's own); nil = a program
	// Dependencies are what must come before, without doubles; Named tells that Name was given and is not the command's.
	Dependencies []Dependency
	Named        bool
	System       map[string]any // all of attributes.system as given, without environment, for info and round trips
}

// Request is the resource part in the form the scheduler matches: a V1 jobspec is always
// [node >] slot > (core, gpu, memory). Comparable with ==, so that equal requests form a group.
type Request struct {
	Nodes     int   // number of nodes wanted; 0 = anywhere (slots may share nodes)
	Slots     int   // total slots if Nodes == 0, else slots per node; ≥ 1
	Cores     int   // cores per slot; ≥ 1
	GPUs      int   // gpus per slot
	GPUPart   int   // hundredths of one gpu per slot, 1 … 99; 0 = none. Not both
	MemMiB    int64 // memory per slot in MiB; 0 = not asked
	Exclusive bool  // whole nodes; needs Nodes > 0
	// Counters is what the whole job takes of the instance's named counters, in one form per set: "licence=1,scratch=20", sorted by name.
	Counters string
}

// TotalSlots is the number of slots of the whole request.
func (r Request) TotalSlots() int {
	if r.Nodes > 0 {
		return r.Nodes * r.Slots
	}
	return r.Slots
}

// TaskCount says how many tasks a job has: exactly one field is > 0.
type TaskCount struct {
	PerSlot int // tasks[0].count.per_slot
	Total   int // tasks[0].count.total
	PerNode int // shell option per-resource {type:node,count}
	PerCore int // shell option per-resource {type:core,count}
}

// ShellOptions are the options of attributes.system.shell.options that Frond acts on; the rest stays in System.
type ShellOptions struct {
	Stdout, Stderr Output
	Stdin          string           // input.stdin.path; empty = none (or streamed by attach)
	CPUAffinity    string           // "on" (default), "off", "per-task", "map:IDS;IDS…"
	GPUAffinity    string           // same
	RLimit         map[string]int64 // lower-case names as in Flux (core, nofile, …); -1 = unlimited
	Umask          int              // -1 = the broker's
	Nice           int
	Signal         int     // warn with this signal … (0 = none)
	SignalLeft     float64 // … so many seconds before the time limit
	KillTimeout    float64 // seconds between TERM and KILL; default 5
	ExitTimeout    float64 // seconds after the first task's exit until the rest is killed; <0 none; default 30
	ExitOnError    bool
	Unbuffered     bool
	Label          bool   // stdout and stderr lines are prefixed with "RANK: "
	PMI            string // "" = for jobs of several tasks, "simple", "off"
	PMINoMap       bool   // do not tell PMI programs which tasks share a node
	Numbering      Numbering
	PTY            PTY
	EnvExpand      map[string]string // variables whose values are templates
	Prolog, Epilog string            // commands for sh that run on each node before and after the tasks
	Verbose        int               // 1, 2: messages about the start of tasks on their standard error
}

// PTY says which tasks have a terminal (shell option pty).
type PTY struct {
	Ranks       string // idset of task ranks, "all", "" = none
	Interactive bool   // who is attached lends its own terminal to task 0
	Rows, Cols  int    // of the terminals, until somebody says otherwise; 0 = 24 × 80
}

// Instance is what a job is that is an instance of its own: it has one task, a broker, for each broker that holds some of its resources.
// Task 0 is the leader and runs the program, whose end is the job's.
type Instance struct {
	History    bool    // what it ran stays to be seen when it has ended
	StartLimit float64 // seconds it may take to come up
}

// Output says where one stream goes.
type Output struct {
	Path   string // template of a file; empty = to the store
	Append bool
	Label  bool
}

// TestExec asks for mock execution, as Flux's attributes.system.exec.test.
type TestExec struct {
	RunDuration   float64 // seconds
	WaitStatus    int     // wait(2) status word to report
	MockException string  // "init" | "run" …: post an exception instead
}
