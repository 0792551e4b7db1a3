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
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "umlfs/mounts.h"

enum {
	NAMES_MAX = 2 * PATH_MAX,
	OWN_FD = STDERR_FILENO + 1,
};

/* The next message; 0 when the daemon has ended. */
static size_t hear(int fd, char *text, size_t size)
{
	ssize_t n;

	do {
		n = recv(fd, text, size - 1, 0);
	} while (n < 0 && errno == EINTR);
	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

/* Another mount may be in its place when this one went by itself. */
static bool is_mounted(const char *session, const char *mountpoint)
{
	cleanup_free char *found = NULL;

	return mounts_find_mountpoint(mountpoint, &found) == 0 && strcmp(found, session) == 0;
}

/* Keeps its end of the socket; the first three descriptors lead nowhere. A signal to the daemon's group must not end it. */
static int leave_daemon(int fd)
{
	int kept = fcntl(fd, F_DUPFD_CLOEXEC, OWN_FD);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
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
	char names[NAMES_MAX], word[2];
	const char *mountpoint;

	fd = leave_daemon(fd);
	if (fd < 0 || hear(fd, names, sizeof(names)) == 0)
		return 0;
	mountpoint = names + strlen(names) + 1;
	if (hear(fd, word, sizeof(word)) == 0 || !is_mounted(names, mountpoint))
		return 0;
	return -mounts_unmount(mountpoint, true, NULL);
}

int unmounter_fork(struct unmounter *u)
{
	cleanup_fd int ours = -1, its = -1;
	int fds[2];
	pid_t pid;

	*u = (struct unmounter){.fd = -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	ours = fds[0];
	its = fds[1];
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(run(its));
	u->fd = take_fd(&ours);
	u->pid = pid;
	return 0;
}

int unmounter_name(struct unmounter *u, const char *session, const char *mountpoint)
{
	char names[NAMES_MAX];
	size_t len = strlen(session) + 1, mountpoint_len = strlen(mountpoint) + 1;

	if (len + mountpoint_len >= sizeof(names))
		return -ENAMETOOLONG;
	memcpy(names, session, len);
	memcpy(names + len, mountpoint, mountpoint_len);
	return send(u->fd, names, len + mountpoint_len, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int unmounter_ask(struct unmounter *u)
{
	if (u->asked)
		return 0;
	u->asked = true;
	return send(u->fd, "u", 1, MSG_NOSIGNAL) < 0 ? -EPIPE : 0;
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
