package arch

// The rules. A path ends in "/..." to mean everything below too. Longest match wins.

const module = "github.com/frond-hpc/frond/"

// imports says which packages of ours each may import besides itself. A package that no row names may import nothing of ours,
// so that a new one has to be thought about.
var imports = map[string][]string{
	// What a user asks for and what there is. jobspec may use the two leaf formats, which import nothing: constraints are written in
	// them, and an error in them belongs to submission.
	"jobspec":           {"resource/idset", "resource/hostlist"},
	"resource":          {"jobspec", "resource/idset", "resource/hostlist"},
	"resource/idset":    {},
	"resource/hostlist": {},
	"resource/probe":    {"resource", "resource/idset"},

	"sched":     {"jobspec", "resource/..."},
	"sched/...": {"sched/...", "jobspec", "resource/..."},

	// exec and sched never import each other: they meet in the job service, by messages. The adapters of exec implement its ports.
	"exec":         {"jobspec", "resource/..."},
	"exec/...":     {"exec/...", "jobspec", "resource/..."},
	"exec/carry":   {"exec/pty"},
	"exec/guard":   {},
	"exec/pty":     {},
	"exec/spawner": {},

	"parallel": {},

	"overlay/wire":  {},
	"overlay":       {"overlay/wire"},
	"overlay/...":   {"overlay", "overlay/wire"},
	"overlay/meet":  {"overlay/curve"},
	"overlay/outer": {"resource/hostlist", "resource/idset"},
	"overlay/unix":  {"overlay", "overlay/usock"},
	"overlay/zmq":   {"overlay", "overlay/wire", "overlay/curve"}, // in a test: libzmq and curve must agree

	"broker/rpc":       {"overlay/wire"},
	"broker/reactor":   {"broker/rpc", "overlay/wire"},
	"broker/api":       {"broker/rpc", "overlay/wire", "jobspec", "resource/..."},
	"broker/branch":    {"jobspec", "resource/..."},
	"broker/job":       {"broker/branch", "jobspec", "resource/..."},
	"broker/kvs":       {"overlay/wire"},
	"broker/store/...": {"broker/store/...", "broker/job", "broker/kvs", "broker/reactor", "jobspec", "resource"},
	"broker/local":     {"broker/api", "broker/rpc", "broker/reactor", "overlay/wire", "overlay/usock"},

	// A service: its own machine, and what all services share. Never another service.
	"broker/jobsvc":      {"broker/job", "broker/branch", "broker/api", "broker/rpc", "broker/reactor", "overlay/wire", "jobspec", "resource/..."},
	"broker/branchsvc":   {"broker/branch", "broker/api", "broker/rpc", "broker/reactor", "overlay/wire", "jobspec", "resource/..."},
	"broker/kvssvc":      {"broker/kvs", "broker/api", "broker/rpc", "broker/reactor", "overlay/wire"},
	"broker/rexecsvc":    {"exec/rexec", "broker/api", "broker/rpc", "broker/reactor", "overlay/wire"},
	"broker/schedsvc":    {"sched/...", "broker/api", "broker/rpc", "broker/reactor", "overlay/wire", "jobspec", "resource/..."},
	"broker/resourcesvc": {"broker/api", "broker/rpc", "broker/reactor", "overlay/wire", "jobspec", "resource/..."},
	"broker/execsvc":     {"exec", "broker/api", "broker/rpc", "broker/reactor", "overlay/wire", "jobspec", "resource/..."},

	// One broker: wires services to the overlay and the local socket; stores, transports and spawners are passed in.
	"broker": {"broker/api", "broker/rpc", "broker/reactor", "broker/local", "overlay", "overlay/wire", "jobspec", "resource/..."},

	"config": {},

	"client/...":    {"client/...", "overlay/wire", "broker/api", "broker/rpc", "jobspec", "resource/..."},
	"cmd/frond/...": {"..."},
	"test/...":      {"..."},
	"examples/...":  {},
}

// neverImported are packages that nobody imports, whatever the rows say, but test code in test.
var neverImported = []string{"cmd/...", "test/...", "examples/..."}

// onlyIn says which packages alone may import a library, or a package that carries one.
var onlyIn = map[string][]string{
	"github.com/pebbe/zmq4":              {"overlay/zmq"},
	"github.com/mattn/go-sqlite3":        {"broker/store"},
	"database/sql":                       {"broker/store"},
	"github.com/spf13/cobra":             {"cmd/frond/..."},
	"github.com/vbauerster/mpb/v8":       {"cmd/frond/..."},
	"github.com/charmbracelet/bubbletea": {"cmd/frond/..."},
	"golang.org/x/term":                  {"cmd/frond/..."},
	"golang.org/x/crypto":                {"overlay/curve"},
	"github.com/BurntSushi/toml":         {"config"},
	"go.uber.org/zap":                    {"cmd/frond/...", "broker", "overlay/zmq", "overlay/unix", "test/..."},
	"github.com/vmihailenco/msgpack/v5":  {"overlay/...", "broker/...", "resource", "client/...", "exec/...", "cmd/frond/...", "test/..."},
}

// pure packages do no I/O, have no clock, no randomness of their own, no goroutines.
var pure = []string{
	"jobspec", "resource", "resource/idset", "resource/hostlist",
	"sched/...", "exec", "exec/pmi", "exec/rexec", "overlay", "overlay/wire", "broker/branch", "broker/job", "broker/kvs", "broker/api", "broker/rpc",
	"broker/jobsvc", "broker/branchsvc", "broker/kvssvc", "broker/rexecsvc", "broker/schedsvc", "broker/resourcesvc", "broker/execsvc",
}

// impure imports, each with everything below it.
var impure = []string{"os", "net", "sync", "context", "log", "math/rand", "crypto/rand", "syscall", "database/sql", "golang.org/x/sys",
	"golang.org/x/term", "go.uber.org/zap", "runtime", "unsafe"}

// impureTime are the functions of package time that read the clock or wait.
var impureTime = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// mayGo are the packages that may start goroutines; each says in its code who waits for them.
var mayGo = []string{"broker", "broker/reactor", "broker/local", "broker/store/...", "client/...", "cmd/frond/...", "exec/...", "overlay/...", "test/..."}

// Sizes in lines.
const (
	maxFile = 600
	maxFunc = 80
)

// exceptions from a rule: "rule path" or "rule path.Func", with the reason. An exception that is not needed is an error.
var exceptions = map[string]string{}
