/*
 * run_session: serves the session of a run, in a process of its own.
 * Invariant: the process that serves unmounts and ends when its parent dies.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "umlfs/control.h"
#include "umlfs/mounts.h"
#include "umlfs/serve.h"

enum { END_MS = 10000 };

static void tell_ready(void *arg, const char *mountpoint)
{
	int fd = *(const int *)arg;

	if (write(fd, mountpoint, strlen(mountpoint)) < 0)
		_exit(RUN_FAILED);
	close(fd);
}

static _Noreturn void serve(const struct run_plan *plan, const char *path, int ready, pid_t parent)
{
	struct serve_options options = {.base = plan->base, .session = path, .log = &cmd_log, .ready = tell_ready};
	sigset_t none;
	int r;

	options.throw_away = !plan->session && plan->options->keep == RUN_KEEP_NEVER;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(RUN_FAILED);
	dup2(ready, 3);
	close_range(4, ~0U, 0);
	fcntl(3, F_SETFD, FD_CLOEXEC);
	ready = 3;
	options.ready_arg = &ready;
	r = serve_run(&options);
	exit(r < 0 ? RUN_FAILED : EXIT_DONE); /* not _exit(): a leak checker has its say */
}

/* Returns what the server says: its mountpoint, or nothing when it ended; -ECANCELED when stop can be read. */
static ssize_t hear(int fd, int stop, char *text, size_t size)
{
	struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = stop, .events = POLLIN}};

	while (poll(fds, 2, -1) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	if (fds[1].revents)
		return -ECANCELED;
	return read(fd, text, size);
}

static int wait_ready(int fd, int stop, struct run_session *session)
{
	char text[PATH_MAX];
	ssize_t n = hear(fd, stop, text, sizeof(text) - 1);

	if (n <= 0)
		return n < 0 ? (int)n : -EIO; /* it has said why */
	text[n] = '\0';
	session->mountpoint = strdup(text);
	return session->mountpoint ? 0 : -ENOMEM;
}

int run_mount(const struct run_plan *plan, int stop, struct run_session *session)
{
	pid_t parent = getpid();
	int fds[2];
	int r;

	if (plan->mounted) {
		session->mountpoint = strdup(plan->mountpoint);
		return session->mountpoint ? 0 : -ENOMEM;
	}
	if (pipe2(fds, O_CLOEXEC) < 0)
		return log_errno(&cmd_log, -errno, "pipe");
	fflush(NULL);
	session->server = fork();
	if (session->server == 0)
		serve(plan, session->path, fds[1], parent);
	close(fds[1]);
	r = session->server < 0 ? log_errno(&cmd_log, -errno, "fork") : wait_ready(fds[0], stop, session);
	close(fds[0]);
	if (session->server < 0)
		session->server = 0;
	return r;
}

/* Goes to the snapshot of this name; NULL: the one that the session stands on. */
static int reset(const struct run_session *session, const char *name)
{
	struct request request = {.kind = REQUEST_RESET, .name = name};
	char *text;
	int r = control_request(session->path, &request, &cmd_log, &text);

	if (r == 0)
		free(text);
	return r;
}

int run_go_to_snapshot(const struct run_plan *plan, const struct run_session *session)
{
	return plan->options->snapshot ? reset(session, plan->options->snapshot) : 0;
}

int run_reset(const struct run_session *session)
{
	return reset(session, NULL);
}

/* True when the process has been reaped within the time. */
static bool reap(pid_t pid, int ms)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd fd = {.fd = pidfd, .events = POLLIN};
	bool ended = pidfd < 0 || poll(&fd, 1, ms) > 0;

	if (pidfd >= 0)
		close(pidfd);
	return ended && waitpid(pid, NULL, 0) >= 0;
}

/* A server whose mount is gone for good ends when all is on disk, however long the disk takes. */
int run_unmount(struct run_session *session)
{
	bool unmounted = false;
	int r = 0;

	if (!session->server)
		return 0;
	if (!session->mountpoint)
		kill(session->server, SIGTERM);
	else if (mounts_unmount(session->mountpoint, false, NULL) == 0)
		unmounted = true;
	else
		r = mounts_unmount(session->mountpoint, true, &cmd_log);
	if (!reap(session->server, unmounted ? -1 : END_MS)) {
		r = log_error(&cmd_log, -ETIMEDOUT, "%s: is still in use after %d s: its server is ended",
		              session->path, END_MS / 1000);
		kill(session->server, SIGKILL);
		waitpid(session->server, NULL, 0);
	}
	session->server = 0;
	return r;
}
