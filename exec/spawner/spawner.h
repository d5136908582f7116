// The protocol between spawner.c and spawner.go: native byte order, both ends are the same executable on the same machine.
#ifndef FROND_SPAWNER_H
#define FROND_SPAWNER_H
#include <stdint.h>

enum { REQ_START = 1, REQ_SIGNAL = 2 };
enum { REP_STARTED = 1, REP_EXITED = 2, REP_FAILED = 3 };

// Which step of a start failed; the order is that of stepNames in spawner.go.
enum {
	STEP_NONE, STEP_FORK, STEP_GROUP, STEP_UMASK, STEP_NICE, STEP_AFFINITY, STEP_FILES, STEP_CHDIR, STEP_RLIMIT, STEP_EXEC
};

// Sources of a task's descriptor that are no index into the descriptors sent along.
enum { SRC_NULL = -1, SRC_SPOOL_OUT = -2, SRC_SPOOL_ERR = -3 };

enum { FLAG_TMPDIR_DIRTY = 1 }; // of a reply: the slot's temporary directory is not as it was

// A request: this header, then for REQ_START nfds × fd_map, nrlims × rlim, naff bytes of cpu mask (a multiple of 8), then
// strings, each ended by NUL: the working directory ("" = stay), nargs arguments, the environment up to the end.
struct req {
	uint32_t len; // of the whole message with this header
	uint32_t type;
	uint32_t nargs, nfds, nrlims, naff;
	int32_t umask; // -1 = inherit
	int32_t nice;  // added to the present niceness
	int32_t sig;   // REQ_SIGNAL: to all processes of the task, or with self to its main process alone
	int32_t files; // number of descriptors sent along (SCM_RIGHTS)
	int32_t tty;   // descriptor 0 is a terminal, which becomes the task's controlling one
	int32_t self;  // REQ_START: run this very program, whatever its name is now
};
struct fd_map { int32_t target, source; };
struct rlim { uint64_t resource, value; }; // soft limit; ~0 = unlimited; lowered to the hard limit

struct rep {
	uint32_t type;
	int32_t pid;    // STARTED, EXITED
	int32_t status; // EXITED: wait(2) status of the main process
	int32_t err;    // FAILED: errno
	int32_t step;   // FAILED
	uint32_t flags;
	int64_t start_ns, end_ns; // CLOCK_REALTIME
	int64_t cpu_us;           // user + system of everything reaped
	int64_t maxrss_kib;       // of the largest process
	uint64_t size[2];         // bytes in the spool files
};
#endif
