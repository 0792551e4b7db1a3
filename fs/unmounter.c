/*
 * unmounter: owns the process that takes the mount away.
 * Invariant: touches one mount, and only when told; ends no later than the daemon.
 * Called by serve.
 */
#include "unmounter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "device.h"
#include "mount_table.h"

enum {
	NAMES_MAX = 2 * PATH_MAX,
	OWN_FD = STDERR_FILENO + 1,
};

/* Messages: its first, and ours after the names. */
enum {
	READY = 'r', /* it has left the daemon */
	LEND = 'l',  /* with a descriptor */
	ASK = 'u',
	ALARM = 'a',
};

/* A message has room for one descriptor. */
union ancillary {
	struct cmsghdr head;
	char room[CMSG_SPACE(sizeof(int))];
};

static struct msghdr message(struct iovec *text, union ancillary *with)
{
	return (struct msghdr){.msg_iov = text, .msg_iovlen = 1, .msg_control = with, .msg_controllen = sizeof(*with)};
}

/* The next message; 0 when the daemon has ended. A descriptor that came with it replaces *device. */
static size_t hear(int fd, char *text, size_t size, int *device)
{
	struct iovec part = {.iov_base = text, .iov_len = size - 1};
	union ancillary with;
	struct msghdr from = message(&part, &with);
	struct cmsghdr *head;
	ssize_t n;

	do {
		n = recvmsg(fd, &from, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	text[n > 0 ? n : 0] = '\0';
	head = n > 0 ? CMSG_FIRSTHDR(&from) : NULL;
	if (head && head->cmsg_type == SCM_RIGHTS)
		memcpy(device, CMSG_DATA(head), sizeof(*device));
	return n > 0 ? (size_t)n : 0;
}

/* The mount, wherever it was moved to. Another one may be in its place when it went by itself. */
static int unmount(const char *session, const char *device)
{
	struct mount_search search = {.session = session, .device = device};
	int r = mounts_each(mount_table_match, &search);

	if (r > 0)
		r = search.found ? mounts_unmount(search.found, true, NULL) : -ENOMEM;
	free(search.found);
	return r;
}

static int say(int fd, char word)
{
	return send(fd, &word, sizeof(word), MSG_NOSIGNAL) < 0 ? -EPIPE : 0;
}

/* Keeps its end of the socket; the first three descriptors lead nowhere. */
static int leave_daemon(int fd)
{
	int kept = fcntl(fd, F_DUPFD_CLOEXEC, OWN_FD);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	prctl(PR_SET_NAME, "umlfs-unmount");
	for (int i = 0; i < OWN_FD; i++)
		null < 0 ? close(i) : dup2(null, i);
	if (kept != OWN_FD)
		kept = dup3(kept, OWN_FD, O_CLOEXEC);
	close_range(OWN_FD + 1, UINT_MAX, 0);
	return chdir("/") < 0 ? -1 : kept;
}

static int run(int fd)
{
	char names[NAMES_MAX], word[2] = "";
	const char *mountpoint;
	struct mount_place place = {0};
	int daemon, device = -1;

	fd = leave_daemon(fd);
	daemon = (int)syscall(SYS_pidfd_open, getppid(), 0);
	if (fd < 0 || say(fd, READY) < 0 || hear(fd, names, sizeof(names), &device) == 0)
		return 0;
	mountpoint = names + strlen(names) + 1;
	while (*word != ASK && *word != ALARM && hear(fd, word, sizeof(word), &device) > 0) {
		if (*word == LEND)
			mount_table_find(mountpoint, &place);
	}
	if (*word != ASK) {
		if (device >= 0 && daemon >= 0)
			device_refuse(device, daemon);
		return 0;
	}
	close_fd(device);   /* the kernel answers for a daemon that has closed its own */
	if (!*place.device) /* the start failed before the device was lent */
		mount_table_find(mountpoint, &place);
	return *place.device ? -unmount(names, place.device) : 0;
}

int unmounter_fork(struct unmounter *u)
{
	cleanup_fd int ours = -1, its = -1;
	sigset_t all, before;
	int fds[2];
	pid_t pid;

	*u = (struct unmounter){.fd = -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	ours = fds[0];
	its = fds[1];
	/* In the other for good: a signal to the daemon's group must not end it. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		_exit(run(its));
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return -errno;
	u->fd = take_fd(&ours);
	u->pid = pid;
	return 0;
}

int unmounter_name(struct unmounter *u, const char *session, const char *mountpoint)
{
	char names[NAMES_MAX];
	size_t len = strlen(session) + 1, mountpoint_len = strlen(mountpoint) + 1;

	if (recv(u->fd, names, 1, 0) != 1)
		return -EPIPE;
	if (len + mountpoint_len >= sizeof(names))
		return -ENAMETOOLONG;
	memcpy(names, session, len);
	memcpy(names + len, mountpoint, mountpoint_len);
	return send(u->fd, names, len + mountpoint_len, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int unmounter_lend(struct unmounter *u, int device)
{
	char word = LEND;
	struct iovec part = {.iov_base = &word, .iov_len = sizeof(word)};
	union ancillary with = {
		.head = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(device))}};
	struct msghdr to = message(&part, &with);

	memcpy(CMSG_DATA(&with.head), &device, sizeof(device));
	return sendmsg(u->fd, &to, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int unmounter_ask(struct unmounter *u)
{
	if (u->asked)
		return 0;
	u->asked = true;
	return say(u->fd, ASK);
}

void unmounter_alarm(int fd)
{
	say(fd, ALARM);
}

int unmounter_wait(struct unmounter *u)
{
	int status = 0;

	if (u->fd < 0)
		return 0;
	u->fd = close_fd(u->fd);
	while (waitpid(u->pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (WIFSIGNALED(status))
		return u->asked ? -EPIPE : 0;
	return -WEXITSTATUS(status);
}
