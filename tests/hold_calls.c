/*
 * hold_calls: makes reads, syncs, removals of content files and exchanges of names last until somebody lets them go on.
 * Invariant: a call that is held has told so, and waits in a read that a signal can end; nothing else is changed.
 * Called by the dynamic loader (LD_PRELOAD) in a program under test. UMLFS_HOLD names a directory with two FIFOs: "held" gets a
 * letter for each call that begins to wait (r: a read, s: a sync, u: a removal, x: an exchange), "go" has a byte for each that may go on; all may
 * when nobody writes to it any more, because the test has ended. Calls are held while the directory has a file "reads", "syncs",
 * "removals" or "exchanges", but for those of the loop: a thread that has waited for events. The FIFOs are opened before the daemon is confined,
 * and after it has closed what it inherited. A program "mounter" there is run in place of fusermount3.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CACHESTAT_NR = 451 };

static int held = -1, go = -1;
static __thread int is_loop;
static char reads[512], syncs[512], removals[512], exchanges[512], mounter[512];

static int open_in(const char *directory, const char *name, int flags)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return open(path, flags | O_CLOEXEC);
}

static void start(void)
{
	const char *directory = getenv("UMLFS_HOLD");

	if (!directory || held >= 0)
		return;
	held = open_in(directory, "held", O_RDWR); /* waits for no other end */
	go = open_in(directory, "go", O_RDONLY);
	snprintf(reads, sizeof(reads), "%s/reads", directory);
	snprintf(syncs, sizeof(syncs), "%s/syncs", directory);
	snprintf(removals, sizeof(removals), "%s/removals", directory);
	snprintf(exchanges, sizeof(exchanges), "%s/exchanges", directory);
	snprintf(mounter, sizeof(mounter), "%s/mounter", directory);
}

static int holds(const char *which)
{
	int saved = errno;
	int yes = held >= 0 && !is_loop && access(which, F_OK) == 0;

	errno = saved;
	return yes;
}

static void hold(char letter)
{
	char byte;

	if (write(held, &letter, 1) != 1 || read(go, &byte, 1) < 0)
		abort();
}

int epoll_create1(int flags)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "epoll_create1");

	start();
	return real(flags);
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
	int (*real)(int, struct epoll_event *, int, int) =
		(int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");

	is_loop = 1;
	return real(fd, events, max, timeout);
}

ssize_t preadv64v2(int fd, const struct iovec *parts, int n, off64_t at, int flags)
{
	ssize_t (*real)(int, const struct iovec *, int, off64_t, int) =
		(ssize_t(*)(int, const struct iovec *, int, off64_t, int))dlsym(RTLD_NEXT, "preadv64v2");

	if (held < 0 || access(reads, F_OK) < 0)
		return real(fd, parts, n, at, flags);
	errno = EAGAIN;
	return -1;
}

/* While reads are held nothing lies in memory (cachestat(2)); six arguments are all that there can be. */
long syscall(long number, ...)
{
	long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	long values[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		values[i] = va_arg(args, long);
	va_end(args);
	if (number == CACHESTAT_NR && held >= 0 && access(reads, F_OK) == 0) {
		memset((void *)values[2], 0, 5 * sizeof(uint64_t));
		return 0;
	}
	return real(number, values[0], values[1], values[2], values[3], values[4], values[5]);
}

ssize_t pread64(int fd, void *buf, size_t len, off64_t at)
{
	ssize_t (*real)(int, void *, size_t, off64_t) =
		(ssize_t(*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");

	if (holds(reads))
		hold('r');
	return real(fd, buf, len, at);
}

int execv(const char *path, char *const argv[])
{
	int (*real)(const char *, char *const[]) = (int (*)(const char *, char *const[]))dlsym(RTLD_NEXT, "execv");

	return real(*mounter && access(mounter, X_OK) == 0 ? mounter : path, argv);
}

/* In place of execv() from libfuse 3.17 on. */
int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const argv[], char *const env[])
{
	int (*real)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],
	            char *const[]) =
		(int (*)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
	                 char *const[], char *const[]))dlsym(RTLD_NEXT, "posix_spawn");

	return real(pid, *mounter && access(mounter, X_OK) == 0 ? mounter : path, actions, attributes, argv, env);
}

int fdatasync(int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");

	if (holds(syncs))
		hold('s');
	return real(fd);
}

int unlinkat(int fd, const char *path, int flags)
{
	int (*real)(int, const char *, int) = (int (*)(int, const char *, int))dlsym(RTLD_NEXT, "unlinkat");

	if (strstr(path, "/content/") && holds(removals))
		hold('u');
	return real(fd, path, flags);
}

/* Of a command, which waits for no events. */
int renameat2(int dir, const char *path, int to, const char *new, unsigned int flags)
{
	int (*real)(int, const char *, int, const char *, unsigned int) =
		(int (*)(int, const char *, int, const char *, unsigned int))dlsym(RTLD_NEXT, "renameat2");

	if (flags == RENAME_EXCHANGE)
		start();
	if (flags == RENAME_EXCHANGE && holds(exchanges))
		hold('x');
	return real(dir, path, to, new, flags);
}
