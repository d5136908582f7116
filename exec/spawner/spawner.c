// A resident process that runs one task at a time for a broker: see doc.go. It is entered from a constructor, before Go's
// runtime exists, is single-threaded, and uses no memory that it does not touch.
#define _GNU_SOURCE
#include "spawner.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern void frond_tree_signal(int sig);       // tree.c
extern int frond_tree_scan;
extern int frond_bare_main(int argc, char **argv); // bare.c

enum { CTL = 3, NUL = 4, SPOOL = 5 }; // inherited: control socket, /dev/null, spool files 5 and 6
enum { MAXFDS = 64, MAXAFF = 4096, STACK = 64 << 10, QUICK_MS = 3 };

// What has come over the control socket and is not yet used.
static struct {
	char *data;
	size_t len, cap;
	int fds[MAXFDS], nfds;
} in;

static struct {
	pid_t pid;        // of the main process; 0 = none runs
	int uses_spool;
	int status;
	struct rep rep;
} task;

static const char *tmpdir; // of this slot; NULL = none
static int tmpfd = -1;
static struct timespec tmp_seen; // its last change when it was found empty; 0 = look again
static sigset_t wait_mask, none_mask;

// What the child between clone and exec needs; it shares the spawner's memory.
static struct {
	struct req *r;
	struct fd_map *map;
	struct rlim *rlims;
	char *aff, *cwd;
	char **argv, **envp;
	const char *path;
	int err, step;
} child;
static char child_stack[STACK] __attribute__((aligned(16)));
static char **vec; // argv and envp
static size_t vec_cap;

static int64_t now_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void account(const struct rusage *ru) {
	task.rep.cpu_us += (ru->ru_utime.tv_sec + ru->ru_stime.tv_sec) * 1000000LL + ru->ru_utime.tv_usec + ru->ru_stime.tv_usec;
	if (ru->ru_maxrss > task.rep.maxrss_kib) task.rep.maxrss_kib = ru->ru_maxrss;
}

// Reaps one process; returns wait4's result.
static pid_t reap(int flags) {
	struct rusage ru;
	int status;
	pid_t pid = wait4(-1, &status, flags | __WALL, &ru);
	if (pid <= 0) return pid;
	account(&ru);
	if (pid == task.pid) {
		task.status = status;
		task.pid = 0;
	}
	return pid;
}

// Kills and reaps whatever is left. A process that a dying one leaves becomes our child before that one can be reaped, so each
// blocking wait has at least one killed child to wait for, and the loop ends when there is none.
static void kill_rest(void) {
	for (;;) {
		pid_t pid;
		frond_tree_signal(SIGKILL);
		pid = reap(0);
		while (pid > 0) pid = reap(WNOHANG);
		if (pid < 0 && errno == ECHILD) return;
	}
}

static void die(int code) {
	kill_rest();
	_exit(code);
}

static void send_reply(void) {
	const char *p = (const char *)&task.rep;
	size_t left = sizeof task.rep;
	while (left > 0) {
		ssize_t n = send(CTL, p, left, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR) continue;
		if (n <= 0) die(1);
		p += n;
		left -= n;
	}
}

static void *grow(void *p, size_t *cap, size_t want, size_t size) {
	size_t c = *cap ? *cap : 16;
	if (want <= *cap) return p;
	while (c < want) c *= 2;
	p = realloc(p, c * size);
	if (!p) die(1);
	*cap = c;
	return p;
}

static void take_fds(struct msghdr *m) {
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
		int n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (int i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (in.nfds < MAXFDS) in.fds[in.nfds++] = fd;
			else close(fd);
		}
	}
}

// Reads what is there, waiting for at least one byte. The broker's end closing, also by its death, ends everything here.
static void fill(size_t want) {
	char control[CMSG_SPACE(sizeof(int) * MAXFDS)];
	struct iovec io;
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	if (want < in.len + (16 << 10)) want = in.len + (16 << 10);
	in.data = grow(in.data, &in.cap, want, 1);
	io.iov_base = in.data + in.len;
	io.iov_len = in.cap - in.len;
	ssize_t n = recvmsg(CTL, &m, MSG_CMSG_CLOEXEC);
	if (n < 0 && errno == EINTR) return;
	if (n <= 0) die(0);
	take_fds(&m);
	in.len += n;
}

// The first message if it is whole, else NULL.
static struct req *message(void) {
	struct req *r = (struct req *)in.data;
	if (in.len < sizeof *r || in.len < r->len) return NULL;
	return r;
}

static void drop_message(void) {
	size_t len = ((struct req *)in.data)->len;
	memmove(in.data, in.data + len, in.len - len);
	in.len -= len;
	if (in.cap > (256 << 10) && in.len == 0) { // an unusually large one: give the memory back
		free(in.data);
		in.data = NULL;
		in.cap = 0;
	}
}

static void drop_fds(void) {
	for (int i = 0; i < in.nfds; i++) close(in.fds[i]);
	in.nfds = 0;
}

static int source_fd(int source) {
	switch (source) {
	case SRC_NULL: return NUL;
	case SRC_SPOOL_OUT: return SPOOL;
	case SRC_SPOOL_ERR: return SPOOL + 1;
	}
	return source < in.nfds ? in.fds[source] : -1;
}

// Puts the descriptors in place. Targets beyond stderr could be sources of later ones, so all sources move out of the way first.
static int place_files(void) {
	int src[MAXFDS], n = child.r->nfds;
	for (int i = 0; i < n; i++) {
		src[i] = source_fd(child.map[i].source);
		if (n > 3) src[i] = fcntl(src[i], F_DUPFD_CLOEXEC, 2 * MAXFDS);
		if (src[i] < 0) return -1;
	}
	for (int i = 0; i < n; i++)
		if (dup2(src[i], child.map[i].target) < 0) return -1;
	return 0;
}

static int set_rlimits(void) {
	for (uint32_t i = 0; i < child.r->nrlims; i++) {
		struct rlimit l;
		rlim_t want = child.rlims[i].value;
		if (getrlimit(child.rlims[i].resource, &l) < 0) return -1;
		if (want > l.rlim_max) want = l.rlim_max;
		if (l.rlim_cur == want) continue;
		l.rlim_cur = want;
		if (setrlimit(child.rlims[i].resource, &l) < 0) return -1;
	}
	return 0;
}

// Puts the spawner itself on the task's cpus; the task inherits them. Set in the child they would cost each task a move by the
// kernel's migration thread, while a slot's next task mostly has the same ones.
static int set_affinity(void) {
	static char first[MAXAFF], now[MAXAFF]; // masks: what the spawner was started with, what it has
	static size_t nfirst, nnow;
	const char *want = child.aff;
	size_t n = child.r->naff;
	if (nfirst == 0) {
		if (n == 0) return 0;
		long got = syscall(SYS_sched_getaffinity, 0, sizeof first, first);
		if (got <= 0) return -1;
		nfirst = nnow = got;
		memcpy(now, first, nfirst);
	}
	if (n == 0) {
		want = first;
		n = nfirst;
	}
	if (n == nnow && memcmp(want, now, n) == 0) return 0;
	if (syscall(SYS_sched_setaffinity, 0, n, want) < 0) return -1;
	memcpy(now, want, n);
	nnow = n;
	return 0;
}

static void exec_file(const char *file) {
	execve(file, child.argv, child.envp);
	if (errno != ENOEXEC) return;
	// No format the kernel knows: a script without "#!", which POSIX has the shell run. argv[-1] is kept free for this.
	char *argv0 = child.argv[0];
	child.argv[-1] = "/bin/sh";
	child.argv[0] = (char *)file;
	execve("/bin/sh", child.argv - 1, child.envp);
	child.argv[0] = argv0;
}

// execvpe with the PATH of the task's own environment.
static void exec_search(void) {
	static char buf[PATH_MAX];
	const char *file = child.argv[0], *p = child.path;
	size_t flen = strlen(file);
	int denied = 0;
	struct stat st;
	if (flen == 0) {
		errno = ENOENT;
		return;
	}
	if (strchr(file, '/')) {
		exec_file(file);
		return;
	}
	for (;; p++) {
		size_t n = strcspn(p, ":");
		if (n + flen + 2 <= sizeof buf) {
			memcpy(buf, p, n);
			if (n) buf[n] = '/';
			memcpy(buf + n + (n > 0), file, flen + 1);
			exec_file(buf);
			if (errno == EACCES) denied |= stat(buf, &st) == 0; // a directory of PATH that is closed to the user does not have it
			else if (errno != ENOENT && errno != ENOTDIR && errno != ESTALE && errno != ENODEV && errno != ETIMEDOUT) return;
		}
		p += n;
		if (!*p) break;
	}
	errno = denied ? EACCES : ENOENT;
}

// Runs in the child, on a stack of its own but in the spawner's memory (CLONE_VM); the spawner waits (CLONE_VFORK).
static int child_main(void *unused) {
	struct req *r = child.r;
	(void)unused;
#define STEP(s, cond) do { child.step = s; if (!(cond)) goto failed; } while (0)
	// A process group, not a session: the kernel makes a scheduling group of each session, at 30 µs a task. The slot's is enough.
	STEP(STEP_GROUP, (r->tty ? setsid() > 0 : setpgid(0, 0) == 0) && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
	if (r->umask >= 0) umask(r->umask);
	if (r->nice) STEP(STEP_NICE, setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + r->nice) == 0);
	STEP(STEP_FILES, place_files() == 0 && (!r->tty || ioctl(0, TIOCSCTTY, 0) == 0));
	if (*child.cwd) STEP(STEP_CHDIR, chdir(child.cwd) == 0);
	STEP(STEP_RLIMIT, set_rlimits() == 0);
	sigprocmask(SIG_SETMASK, &none_mask, NULL);
	child.step = STEP_EXEC;
	if (r->self) execve("/proc/self/exe", child.argv, child.envp);
	else exec_search();
failed:
	child.err = errno;
	_exit(127);
}

// Fills child from the request. Returns 0 if it does not hold together.
static int parse_start(struct req *r) {
	char *p = (char *)(r + 1), *end = (char *)r + r->len;
	size_t fixed = r->nfds * sizeof(struct fd_map) + (size_t)r->nrlims * sizeof(struct rlim) + r->naff, n = 0;
	if (r->nfds > MAXFDS || r->nrlims > 64 || r->naff > MAXAFF || r->nargs < 1 || r->len < sizeof *r + fixed + 1 || end[-1] != 0) return 0;
	child.r = r;
	child.map = (struct fd_map *)p;
	child.rlims = (struct rlim *)(child.map + r->nfds);
	child.aff = (char *)(child.rlims + r->nrlims);
	child.cwd = child.aff + r->naff;
	child.path = NULL;
	child.err = 0;
	p = child.cwd + strlen(child.cwd) + 1;
	for (n = 1; p < end; p += strlen(p) + 1) {
		vec = grow(vec, &vec_cap, n + 4, sizeof *vec);
		if (n == (size_t)r->nargs + 1) vec[n++] = NULL;
		if (n > r->nargs && !child.path && strncmp(p, "PATH=", 5) == 0) child.path = p + 5;
		vec[n++] = p;
	}
	if (n <= r->nargs) return 0;
	if (n == (size_t)r->nargs + 1) vec[n++] = NULL;
	vec[n] = NULL;
	if (!child.path) child.path = "/usr/local/bin:/usr/bin:/bin";
	child.argv = vec + 1;
	child.envp = vec + r->nargs + 2;
	return 1;
}

static void fail(int step, int err) {
	task.rep.type = REP_FAILED;
	task.rep.step = step;
	task.rep.err = err;
	task.rep.end_ns = now_ns();
	send_reply();
}

// A task may have changed the flags of the spool's open file, which all tasks of this slot share.
static void prepare_spool(void) {
	task.uses_spool = 0;
	for (uint32_t i = 0; i < child.r->nfds; i++)
		if (child.map[i].source <= SRC_SPOOL_OUT) {
			task.uses_spool = 1;
			fcntl(source_fd(child.map[i].source), F_SETFL, O_APPEND);
		}
}

static int same_time(const struct timespec *a, const struct timespec *b) {
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

// Remembers the time of the empty directory's last change, unless it is so recent that a change yet to come might get the same.
static void see_tmpdir(void) {
	struct stat st;
	struct timespec now;
	memset(&tmp_seen, 0, sizeof tmp_seen);
	if (fstat(tmpfd, &st) < 0 || clock_gettime(CLOCK_REALTIME, &now) < 0) return;
	if (now.tv_sec > st.st_ctim.tv_sec + 2) tmp_seen = st.st_ctim;
}

static void open_tmpdir(void) {
	if (!tmpdir || tmpfd >= 0) return;
	tmpfd = open(tmpdir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tmpfd >= 0) memset(&tmp_seen, 0, sizeof tmp_seen);
}

static void start(struct req *r) {
	memset(&task.rep, 0, sizeof task.rep);
	task.rep.start_ns = now_ns();
	if (!parse_start(r)) {
		fail(STEP_FORK, EINVAL);
		return;
	}
	if (set_affinity() < 0) {
		fail(STEP_AFFINITY, errno);
		return;
	}
	prepare_spool();
	open_tmpdir();
	pid_t pid = clone(child_main, child_stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	if (pid < 0) {
		fail(STEP_FORK, errno);
		return;
	}
	if (child.err) {
		while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR);
		fail(child.step, child.err);
		return;
	}
	task.pid = task.rep.pid = pid;
}

// Tells whether something was left in the slot's temporary directory, or it is gone; then it is opened anew for the next task.
static int tmpdir_dirty(void) {
	char buf[256];
	struct stat st;
	if (tmpfd < 0) return 0;
	if (fstat(tmpfd, &st) == 0 && st.st_nlink > 0 && same_time(&st.st_ctim, &tmp_seen)) return 0; // no name came or went
	long n = lseek(tmpfd, 0, SEEK_SET) < 0 ? -1 : syscall(SYS_getdents64, tmpfd, buf, sizeof buf);
	if (n != 48) { // "." and ".." take 24 bytes each
		close(tmpfd);
		tmpfd = -1;
		return 1;
	}
	see_tmpdir();
	return 0;
}

static void finish(void) {
	struct stat st;
	pid_t pid;
	do pid = reap(WNOHANG); while (pid > 0);
	if (pid == 0 || errno != ECHILD) kill_rest();
	task.rep.type = REP_EXITED;
	task.rep.status = task.status;
	task.rep.end_ns = now_ns();
	for (int i = 0; task.uses_spool && i < 2; i++)
		if (fstat(SPOOL + i, &st) == 0 && st.st_size > 0) {
			task.rep.size[i] = st.st_size;
			lseek(SPOOL + i, 0, SEEK_SET);
		}
	if (tmpdir_dirty()) task.rep.flags |= FLAG_TMPDIR_DIRTY;
	send_reply();
}

// Handles one whole message, if there is one.
static int handle(void) {
	struct req *r = message();
	if (!r) return 0;
	if (r->type == REQ_START && !task.pid) {
		if (in.nfds < r->files) die(1);
		start(r);
		drop_fds();
	} else if (r->type == REQ_SIGNAL && task.pid) {
		if (r->self) kill(task.pid, r->sig);
		else frond_tree_signal(r->sig);
	}
	drop_message();
	return 1;
}

// Waits for the main process's end and for messages. A task that ends within QUICK_MS is reported once, not twice.
static void supervise(void) {
	struct pollfd p = {.fd = CTL, .events = POLLIN};
	struct timespec quick = {0, QUICK_MS * 1000000};
	int told = 0;
	while (handle()); // what came together with the start
	while (task.pid) {
		int n = ppoll(&p, 1, told ? NULL : &quick, &wait_mask);
		if (n > 0) {
			fill(0);
			while (handle());
		}
		while (task.pid && reap(WNOHANG) > 0);
		if (n == 0 && task.pid && !told) {
			told = 1;
			task.rep.type = REP_STARTED;
			send_reply();
		}
	}
	finish();
}

static void on_child(int sig) { (void)sig; }

static void set_signals(void) {
	struct sigaction dfl = {.sa_handler = SIG_DFL}, chld = {.sa_handler = on_child};
	sigset_t all;
	for (int s = 1; s < NSIG; s++) sigaction(s, &dfl, NULL);
	sigaction(SIGCHLD, &chld, NULL);
	sigfillset(&all);
	wait_mask = all;
	sigdelset(&wait_mask, SIGCHLD);
	sigemptyset(&none_mask);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

static void spawner_main(int argc, char **argv) {
	setsid();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_NAME, "frond-spawner");
	set_signals();
	for (int fd = CTL; fd <= SPOOL + 1; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
	syscall(SYS_close_range, SPOOL + 2, ~0U, 0);
	if (argc > 1 && *argv[1]) tmpdir = argv[1];
	frond_tree_scan = argc > 2;
	for (;;) {
		while (!task.pid && handle());
		if (task.pid) supervise();
		else {
			struct req *r = (struct req *)in.data;
			fill(in.len >= sizeof *r ? r->len : 0);
		}
	}
}

// Every start of the executable passes here; all but ours go on to Go at once.
__attribute__((constructor)) static void frond_spawner_entry(int argc, char **argv, char **envp) {
	(void)envp;
	if (argc < 1 || !argv[0] || strncmp(argv[0], "frond: ", 7) != 0) return;
	if (strcmp(argv[0], "frond: spawner") == 0) spawner_main(argc, argv);
	if (strcmp(argv[0], "frond: bare loop") == 0) _exit(frond_bare_main(argc, argv));
}
