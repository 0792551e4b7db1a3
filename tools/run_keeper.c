/*
 * run_keeper: makes what a run needs and takes it away, whoever dies first.
 *
 * Owns the private directory, the server of the session and the guest. The program that the user sees only
 * carries bytes; when it dies, the keeper reads the end of its socket and does what it would have been told.
 *
 * Invariant: when the keeper has ended, none of it is left, but for a session that is to be kept.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "umlfs/scratch.h"

struct keeper {
	const struct run_plan *plan;
	int fd, signals;
	char *dir;
	int hold; /* of dir; ends with the process */
	struct run_session session;
	pid_t kernel;
};

__attribute__((format(printf, 3, 4))) static void tell(const struct keeper *k, enum keeper_word word,
                                                       const char *format, ...)
{
	char text[PATH_MAX + 64] = {(char)word};
	va_list args;

	va_start(args, format);
	vsnprintf(text + 1, sizeof(text) - 1, format, args);
	va_end(args);
	send(k->fd, text, strlen(text), MSG_NOSIGNAL);
}

/* What a dead or silent program would have wanted. */
static char usual_word(const struct keeper *k)
{
	return k->plan->options->keep == RUN_KEEP_ALWAYS ? KEEPER_KEEP : KEEPER_DROP;
}

/* The next word for the keeper. */
static char hear(const struct keeper *k)
{
	ssize_t n;
	char word;

	do {
		n = recv(k->fd, &word, 1, 0);
	} while (n < 0 && errno == EINTR);
	return n == 1 ? word : usual_word(k);
}

static int make(struct keeper *k, int pipes[RUN_PIPES][2])
{
	int r = scratch_make(SCRATCH_RUN, &cmd_log, &k->dir, &k->hold);

	if (r < 0)
		return r;
	if (k->plan->session)
		k->session.path = strdup(k->plan->session);
	else if (asprintf(&k->session.path, "%s/session", k->dir) < 0)
		return -ENOMEM;
	r = run_mount(k->plan, k->fd, &k->session);
	if (r == 0)
		r = run_go_to_snapshot(k->plan, &k->session);
	if (r == 0)
		r = run_prepare(k->plan, k->dir, k->session.mountpoint);
	if (r < 0)
		return r;
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* so that every process of the guest becomes a child in the end */
	k->kernel = run_start_kernel(k->plan, k->dir, pipes);
	return k->kernel < 0 ? k->kernel : 0;
}

/* True when the process that serves the session has ended though nobody told it to. */
static bool server_died(const struct keeper *k)
{
	siginfo_t info = {0};

	return k->session.server && waitid(P_PID, (id_t)k->session.server, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid;
}

/* Waits for the kernel's end; another word than KEEPER_END comes back, else 0. */
static char wait_for_kernel(const struct keeper *k)
{
	struct pollfd fds[] = {{.fd = k->fd, .events = POLLIN}, {.fd = k->signals, .events = POLLIN}};
	struct run_cpu cpu;

	run_cpu_init(&cpu, k->plan->options);
	for (;;) {
		siginfo_t info = {0};
		struct signalfd_siginfo signal_info;

		if (waitid(P_PID, (id_t)k->kernel, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid)
			return 0;
		if (server_died(k)) {
			tell(k, KEEPER_FAILED, "server");
			log_error(&cmd_log, -EIO, "%s: the process that serves it died: see the messages above, if any",
			          k->session.path);
			return 0;
		}
		run_cpu_look(&cpu, k->kernel);
		if (poll(fds, 2, run_cpu_due(&cpu)) < 0)
			continue;
		if (fds[1].revents && read(k->signals, &signal_info, sizeof(signal_info)) < 0)
			continue;
		if (fds[0].revents) {
			char word = hear(k);

			return word == KEEPER_END ? 0 : word;
		}
	}
}

/* Ends all that is left of the guest. Answers wait(2)'s status of the kernel. */
static int end_guest(const struct keeper *k)
{
	int status = 0;
	pid_t pid;

	/* The kernel leads its group; its helpers and the guest's processes are in it and come to us when it is dead. */
	do {
		int state;

		kill(-k->kernel, SIGKILL);
		pid = waitpid(-k->kernel, &state, 0);
		if (pid == k->kernel)
			status = state;
	} while (pid > 0 || errno == EINTR);
	return status;
}

/* Everything but the session: 0 or -errno. */
static int clear_directory(const struct keeper *k)
{
	const char *const names[] = {"roots", run_umid(k->dir), "initramfs"};
	int r = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[PATH_MAX];
		int removed;

		snprintf(path, sizeof(path), "%s/%s", k->dir, names[i]);
		removed = scratch_remove(path, &cmd_log);
		r = removed < 0 ? removed : r;
	}
	return r;
}

static int take_away(struct keeper *k, bool keep)
{
	int r = run_unmount(&k->session);
	bool own = !k->plan->session;
	int left = 0;

	if (!own && !keep)
		left = run_reset(&k->session);
	if (keep && k->kernel > 0)
		tell(k, KEEPER_KEPT, "%s", k->session.path);
	if (own && keep)
		r = scratch_keep(k->dir, &cmd_log) < 0 || clear_directory(k) < 0 ? -EIO : r;
	else if (k->dir)
		r = scratch_remove(k->dir, &cmd_log) < 0 ? -EIO : r;
	return left < 0 ? left : r;
}

/* The whole life of a keeper. */
static void keep(struct keeper *k, int pipes[RUN_PIPES][2])
{
	char word = 0;
	int r = make(k, pipes);

	for (int i = 0; i < RUN_PIPES; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	if (k->kernel > 0) {
		tell(k, KEEPER_STARTED, "%d %s", (int)k->kernel, k->dir);
		word = wait_for_kernel(k);
		tell(k, KEEPER_ENDED, "%d", end_guest(k));
	} else {
		if (r != -ECANCELED)
			tell(k, KEEPER_FAILED, "start");
		word = k->plan->session ? KEEPER_KEEP : KEEPER_DROP; /* nothing ran that a reset had to undo */
	}
	while (word != KEEPER_DROP && word != KEEPER_KEEP)
		word = hear(k);
	if (take_away(k, word == KEEPER_KEEP) < 0)
		tell(k, KEEPER_FAILED, "end");
}

/* Ctrl-C and a closed terminal are for the program that the user sees. */
static int leave_user(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t set;

	setsid();
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	close(null);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

int run_start_keeper(const struct run_plan *plan, int pipes[RUN_PIPES][2], struct run_keeper *out)
{
	int sockets[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return log_errno(&cmd_log, -errno, "socketpair");
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return log_errno(&cmd_log, -errno, "fork");
	if (pid == 0) {
		struct keeper k = {.plan = plan, .fd = sockets[1], .signals = leave_user()};

		close(sockets[0]);
		for (int i = 0; i < RUN_PIPES; i++) {
			int *user_end = &pipes[i][!run_guest_end(i)];

			close(*user_end);
			*user_end = -1;
		}
		keep(&k, pipes);
		exit(EXIT_DONE); /* not _exit(): a leak checker has its say */
	}
	close(sockets[1]);
	*out = (struct run_keeper){.pid = pid, .fd = sockets[0]};
	return 0;
}
