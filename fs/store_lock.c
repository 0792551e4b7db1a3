/*
 * store_lock: owns the file session/lock.
 * Invariant: the file is locked before its pid is changed.
 * Called by store, mountpoint, mounts and unmount.
 */
#include "store_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "proc.h"

enum {
	TRIES = 2000,
	TRY_NS = 1000000,
	END_MS = 100,    /* for a holder that may be ending, or is a command that is soon done */
	DIE_MS = 10000,  /* for one that is ending: its last thread closes the file, and much memory may go before */
	FIELD_FLAGS = 9, /* of /proc/PID/stat */
	EXITING = 4,     /* PF_EXITING in the kernel's <linux/sched.h> */
	DEVICE_AT = 11,  /* where the device's line begins; behind it the session's path does */
};

struct store_lock_note store_lock_read(int fd)
{
	struct store_lock_note note = {0};
	char text[DEVICE_AT + STORE_LOCK_DEVICE + PATH_MAX];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	sscanf(text, "%d %23s", &note.pid, note.device);
	if (n > DEVICE_AT + STORE_LOCK_DEVICE)
		memcpy(note.session, text + DEVICE_AT + STORE_LOCK_DEVICE, (size_t)n - DEVICE_AT - STORE_LOCK_DEVICE);
	return note;
}

/* In place and always as long, so that a full disk matters only to a new session, which fails anyway. */
static void write_pid(int fd)
{
	char text[DEVICE_AT + 1];

	snprintf(text, sizeof(text), "%-10d\n", (int)getpid());
	io_write_all(fd, text, strlen(text), 0);
}

int store_lock_tell(int fd, const char *device, const char *session)
{
	char text[STORE_LOCK_DEVICE + PATH_MAX];
	int n = snprintf(text, sizeof(text), "%-*s\n%s", STORE_LOCK_DEVICE - 1, device, session);

	return n >= (int)sizeof(text) ? -ENAMETOOLONG : io_write_all(fd, text, (size_t)n + 1, DEVICE_AT);
}

/*
 * False when it has the lock for longer. Else it has ended: its program may still be mounting for it, or another one has just got
 * the lock and will say so.
 */
static bool has_ended(pid_t pid)
{
	cleanup_fd int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	struct pollfd end = {.fd = fd, .events = POLLIN};
	int64_t flags;

	if (fd < 0)
		return pid <= 0 || errno == ESRCH;
	if (poll(&end, 1, END_MS) > 0)
		return true;
	flags = proc_stat(pid, FIELD_FLAGS);
	return flags > 0 && flags & EXITING && poll(&end, 1, DIE_MS) > 0;
}

/* 0, -EWOULDBLOCK when it is that of the process `pid`, or -EBUSY when it is shared by commands that only look. */
static int lock_or_wait(int fd, int how, pid_t *pid)
{
	static const struct timespec pause = {.tv_nsec = TRY_NS};

	for (int i = 0; flock(fd, how | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK)
			return -errno;
		*pid = store_lock_read(fd).pid;
		/* Shared now; or nobody has it any more, and then it can be had. */
		if (flock(fd, LOCK_SH | LOCK_NB) == 0)
			return flock(fd, how | LOCK_NB) == 0 ? 0 : -EBUSY;
		if (i == TRIES || !has_ended(*pid))
			return -EWOULDBLOCK;
		nanosleep(&pause, NULL);
	}
	return 0;
}

int store_lock(const struct session *s, bool look, int *out, const struct log *log)
{
	int flags = (look ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	cleanup_fd int fd = openat(s->dirfd, "lock", flags, 0600);
	pid_t pid = 0;
	int r;

	if (fd < 0 && errno == ENOENT && look)
		return 0; /* nobody ever had it */
	if (fd < 0)
		return log_errno(log, -errno, "%s/lock", s->label);
	if (io_check_regular(fd) == -EUCLEAN)
		return log_error(log, -EUCLEAN, "%s/lock: damaged: it is no regular file; remove it", s->label);
	r = lock_or_wait(fd, look ? LOCK_SH : LOCK_EX, &pid);
	if (r == 0) {
		if (!look)
			write_pid(fd);
		*out = take_fd(&fd);
		return 0;
	}
	if (r == -EBUSY)
		return log_error(log, r, "%s: in use by a command that only looks: try again when it has ended",
		                 s->label);
	if (r != -EWOULDBLOCK)
		return log_errno(log, r, "%s/lock", s->label);
	if (faccessat(s->dirfd, "control", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return log_error(log, -EBUSY, "%s: mounted already by process %d: unmount it with `umlfs umount %s`",
		                 s->label, (int)pid, s->label);
	return log_error(log, -EBUSY, "%s: in use by process %d: try again when it has ended", s->label, (int)pid);
}
