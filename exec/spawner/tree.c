// Finds all descendants of this process: by /proc/PID/task/TID/children, or where the kernel lacks that by every /proc/PID/stat.
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int frond_tree_scan; // do without the children files (tests)

static pid_t *found;
static size_t nfound, cap;

static void add(pid_t pid) {
	if (nfound == cap) {
		size_t c = cap ? cap * 2 : 64;
		pid_t *p = realloc(found, c * sizeof *p);
		if (!p) return; // what is found is signalled; callers come again
		found = p;
		cap = c;
	}
	found[nfound++] = pid;
}

static ssize_t read_file(const char *path, char *buf, size_t size) {
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;
	if (fd < 0) return -1;
	while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0) len += n;
	close(fd);
	buf[len] = 0;
	return len;
}

// Adds the children of one thread; -1 if the kernel does not tell.
static int add_thread(pid_t pid, long tid) {
	static char buf[64 << 10];
	char path[64], *p = buf;
	snprintf(path, sizeof path, "/proc/%d/task/%ld/children", (int)pid, tid);
	if (read_file(path, buf, sizeof buf) < 0) return -1;
	for (;;) {
		char *end;
		long child = strtol(p, &end, 10);
		if (end == p) return 0;
		if (*end) add(child); // a number cut off by the buffer's end is not one; it comes with the next pass
		p = end;
	}
}

static void add_process(pid_t pid) {
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	DIR *d = opendir(path);
	if (!d) return;
	for (struct dirent *e; (e = readdir(d));)
		if (isdigit((unsigned char)e->d_name[0])) add_thread(pid, atol(e->d_name));
	closedir(d);
}

struct link { pid_t pid, parent; };

static size_t all_processes(struct link **out) {
	size_t n = 0, c = 0;
	struct link *l = NULL;
	DIR *d = opendir("/proc");
	if (!d) return 0;
	for (struct dirent *e; (e = readdir(d));) {
		char path[64], buf[512], *p;
		int parent;
		if (!isdigit((unsigned char)e->d_name[0])) continue;
		snprintf(path, sizeof path, "/proc/%.20s/stat", e->d_name);
		if (read_file(path, buf, sizeof buf) <= 0 || !(p = strrchr(buf, ')')) || sscanf(p + 1, " %*c %d", &parent) != 1) continue;
		if (n == c) {
			struct link *bigger = realloc(l, (c = c ? c * 2 : 256) * sizeof *l);
			if (!bigger) break;
			l = bigger;
		}
		l[n++] = (struct link){atoi(e->d_name), parent};
	}
	closedir(d);
	*out = l;
	return n;
}

static void add_by_scan(pid_t self) {
	struct link *l = NULL;
	size_t n = all_processes(&l);
	for (size_t i = 0; i < n; i++)
		if (l[i].parent == self) add(l[i].pid);
	for (size_t k = 0; k < nfound; k++)
		for (size_t i = 0; i < n; i++)
			if (l[i].parent == found[k]) add(l[i].pid);
	free(l);
}

// Sends sig to every process below this one. Children that are found are our own or a living ancestor's, so no pid that was
// given to a stranger in the meantime is hit, short of the whole pid range wrapping around during one pass.
void frond_tree_signal(int sig) {
	pid_t self = getpid();
	nfound = 0;
	if (frond_tree_scan || add_thread(self, self) < 0) add_by_scan(self);
	else
		for (size_t k = 0; k < nfound; k++) add_process(found[k]);
	for (size_t k = 0; k < nfound; k++) kill(found[k], sig);
}
