// The yardstick: the fastest plain way to run many processes, posix_spawn and wait at a given parallelism, in a process of its own.
#define _GNU_SOURCE
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static double seconds(struct timeval t) { return t.tv_sec + t.tv_usec / 1e6; }

static double cpu(int who) {
	struct rusage ru;
	getrusage(who, &ru);
	return seconds(ru.ru_utime) + seconds(ru.ru_stime);
}

// argv: name, count, parallelism, program. Prints elapsed, own and children's CPU seconds.
int frond_bare_main(int argc, char **argv) {
	struct timespec a, b;
	if (argc < 4) return 2;
	int left = atoi(argv[1]), par = atoi(argv[2]), running = 0;
	char *args[] = {argv[3], NULL};
	clock_gettime(CLOCK_MONOTONIC, &a);
	while (left > 0 || running > 0) {
		pid_t pid;
		if (left > 0 && running < par) {
			if (posix_spawnp(&pid, argv[3], NULL, NULL, args, environ) != 0) return 1;
			left--;
			running++;
		} else if (wait(NULL) > 0) {
			running--;
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%.9f %.6f %.6f\n", (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9, cpu(RUSAGE_SELF), cpu(RUSAGE_CHILDREN));
	return fflush(stdout) != 0;
}
