// The guard: a process between a supervisor and the program it runs. It is entered before Go's runtime starts, when argv[0]
// says so, and never leaves. See guard.go for what it is for and for the protocol on descriptor 3.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CTL = 3, GRACE_MS = 500 };

static const int held[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTTOU, SIGTTIN, SIGTSTP, SIGPIPE, SIGUSR1, SIGUSR2, SIGXCPU};
enum { NHELD = sizeof held / sizeof *held };
static struct sigaction before[NHELD];

static pid_t program;
static int tty = -1; // the controlling terminal
static int lent;     // the program has it

static void tell(int32_t v) {
	while (write(CTL, &v, sizeof v) < 0 && errno == EINTR) {
	}
}

// hold makes the guard deaf to signals that are meant for the program; the program gets back what was before.
static void hold(void) {
	struct sigaction ign = {.sa_handler = SIG_IGN};
	for (int i = 0; i < NHELD; i++)
		sigaction(held[i], &ign, &before[i]);
}

// lend gives the terminal to the program if it is ours to give.
static void lend(void) {
	lent = tty >= 0 && tcgetpgrp(tty) == getpgrp();
	if (lent && program > 0)
		tcsetpgrp(tty, program);
}

// in_path tells whether PATH has a file of that name. A directory that is closed to the user does not have it: shells say "not found", too.
static int in_path(const char *name) {
	char buf[PATH_MAX];
	struct stat st;
	for (const char *p = getenv("PATH"); p && *p; p += *p == ':') {
		int n = strcspn(p, ":");
		if (snprintf(buf, sizeof buf, "%.*s/%s", n, p, name) < (int)sizeof buf && stat(buf, &st) == 0)
			return 1;
		p += n;
	}
	return 0;
}

static void become(char **argv, const sigset_t *mask, int errfd) {
	setpgid(0, 0);
	if (lent)
		tcsetpgrp(tty, getpid());
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < NHELD; i++)
		sigaction(held[i], &before[i], NULL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	close(CTL);
	execvp(argv[0], argv);
	int e = errno;
	if (e == EACCES && !strchr(argv[0], '/') && !in_path(argv[0]))
		e = ENOENT;
	if (write(errfd, &e, sizeof e) < 0)
		_exit(126);
	_exit(127);
}

// start returns 0, or the errno with which the program could not be started.
static int start(char **argv, const sigset_t *mask) {
	int p[2], e = 0;
	if (pipe2(p, O_CLOEXEC) < 0)
		return errno;
	program = fork();
	if (program < 0)
		return errno;
	if (program == 0)
		become(argv, mask, p[1]);
	setpgid(program, program);
	close(p[1]);
	if (read(p[0], &e, sizeof e) != sizeof e)
		e = 0;
	close(p[0]);
	return e;
}

// stopped: the program was stopped by the terminal (^Z), or because it wants it and is in the background. The shell that started
// us must see us stopped too; when it continues us in the foreground, the program gets the terminal.
static void stopped(int sig) {
	if (tty < 0 || (!lent && sig != SIGTTIN && sig != SIGTTOU))
		return;
	if (lent)
		tcsetpgrp(tty, getpgrp());
	if (lent || tcgetpgrp(tty) != getpgrp())
		kill(0, SIGSTOP);
	lend();
	kill(-program, SIGCONT);
}

// reap takes what has ended, and returns whether children are left.
static int reap(void) {
	int st;
	pid_t pid;
	while ((pid = waitpid(-1, &st, WNOHANG | WUNTRACED)) > 0) {
		if (pid != program)
			continue;
		if (WIFSTOPPED(st)) {
			stopped(WSTOPSIG(st));
			continue;
		}
		program = 0;
		if (lent)
			tcsetpgrp(tty, getpgrp());
		tell(st);
	}
	return !(pid < 0 && errno == ECHILD);
}

// parent_of reads field 4 of /proc/PID/stat (proc(5)).
static pid_t parent_of(const char *pid) {
	char path[64], buf[512];
	int ppid = -1;
	snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = read(fd, buf, sizeof buf - 1);
	close(fd);
	if (n <= 0)
		return -1;
	buf[n] = 0;
	char *end = strrchr(buf, ')');
	if (!end || sscanf(end + 1, " %*c %d", &ppid) != 1)
		return -1;
	return ppid;
}

// signal_children: as a subreaper we are, sooner or later, the parent of all that the program left.
static void signal_children(int sig) {
	DIR *d = opendir("/proc");
	struct dirent *e;
	if (!d)
		return;
	while ((e = readdir(d)))
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && parent_of(e->d_name) == getpid())
			kill(atoi(e->d_name), sig);
	closedir(d);
}

static void finish(void) {
	struct timespec ms10 = {0, 10 * 1000 * 1000};
	if (!reap())
		_exit(0); // nothing is left: no look through /proc
	if (program > 0) {
		kill(-program, SIGTERM);
		kill(-program, SIGCONT);
	}
	signal_children(SIGTERM);
	signal_children(SIGCONT);
	for (int ms = 0; reap(); ms += 10) {
		if (ms >= GRACE_MS) {
			if (program > 0)
				kill(-program, SIGKILL);
			signal_children(SIGKILL);
		}
		nanosleep(&ms10, NULL);
	}
	_exit(0);
}

// serve passes signals on until the supervisor closes its end or is dead.
static void serve(int sfd) {
	struct pollfd fds[] = {{CTL, POLLIN, 0}, {sfd, POLLIN, 0}};
	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			finish();
		struct signalfd_siginfo si;
		if (fds[1].revents && read(sfd, &si, sizeof si) > 0)
			reap();
		unsigned char sig;
		if (!fds[0].revents)
			continue;
		ssize_t n = read(CTL, &sig, 1);
		if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
			finish();
		if (n == 1 && program > 0)
			kill(-program, sig);
	}
}

__attribute__((constructor)) static void frond_guard(int argc, char **argv, char **envp) {
	(void)envp;
	if (argc < 2 || strcmp(argv[0], "frond-guard") != 0)
		return;
	sigset_t chld, mask;
	fcntl(CTL, F_SETFD, FD_CLOEXEC);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_NAME, "frond-guard");
	hold();
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &mask);
	int sfd = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
	lend();
	int e = start(argv + 1, &mask);
	if (e) {
		tell(-e);
		finish();
	}
	tell(program);
	reap();
	serve(sfd);
}
