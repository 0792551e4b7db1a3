/*
 * umlfs-init: the first process of a guest that `umlfs run` boots: enters the root, runs one command.
 *
 * Owns the guest's mounts, its consoles and its end. It comes in an initramfs and needs nothing of the root, so
 * any root will do.
 *
 * Invariant: every way out reports on the status console and powers off, so that the host never waits for a
 * guest which has nothing more to say.
 *
 * Consoles: tty0 the command's output (or its terminal), tty3 its errors, tty2 the kernel's log, tty1 towards
 * the host lines of
 *     start              the command runs
 *     status N           as a shell counts; everything written is with the host
 *     refused N WHY      the command could not be run
 *     error WHAT: WHY
 *     taken N            a part of standard input was read to its end; the host may remove it
 *     closed             nobody reads standard input any more
 * and from the host
 *     ROWS COLS          the size of the terminal
 *     input N            a part of standard input is there; the first is 0
 *     end                there will be no more
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static const char usual_path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/* The open consoles: tty0, tty1, tty3, and /dev/null. */
static struct {
	int command, status, errors, null;
} console = {-1, -1, -1, -1};

/* What runs: its pipes, its control group or -1. */
struct command {
	pid_t pid;
	struct init_streams streams;
	int group;
	bool frozen;
};

enum { FROZEN_MS = 30000 }; /* who froze it may have died */

static int open_console(const char *path, bool raw)
{
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios tio;

	if (raw && fd >= 0 && tcgetattr(fd, &tio) == 0) {
		cfmakeraw(&tio); /* what is written is what the host reads */
		tcsetattr(fd, TCSANOW, &tio);
	}
	return fd;
}

void init_say(const char *format, ...)
{
	int fd = console.status >= 0 ? console.status : STDERR_FILENO;
	va_list ap;

	va_start(ap, format);
	vdprintf(fd, format, ap);
	va_end(ap);
	tcdrain(fd);
}

int init_failed(int r, const char *what)
{
	if (r)
		init_say("error %s: %s\n", what, strerror(-r));
	else
		init_say("error %s\n", what);
	return r;
}

static _Noreturn void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void resize(unsigned short rows, unsigned short cols)
{
	struct winsize size = {.ws_row = rows, .ws_col = cols};

	ioctl(console.command, TIOCSWINSZ, &size);
}

/* tty0 is raw unless it is somebody's terminal. */
static int open_consoles(const struct init_job *job)
{
	console.command = open_console("/dev/tty0", !job->terminal);
	console.errors = job->apart ? open_console("/dev/tty3", true) : console.command;
	console.null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (console.command < 0 || console.errors < 0 || console.null < 0)
		return init_failed(-errno, "/dev/tty0");
	if (job->terminal)
		resize(job->rows, job->cols);
	return 0;
}

/* The root becomes /, as switch_root(8) does it; nothing of the initramfs needs deleting. */
static int enter_root(void)
{
	if (chdir(INIT_NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return init_failed(-errno, "the root cannot be entered");
	return 0;
}

/* Programs expect to reach themselves at 127.0.0.1. */
static void start_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	ioctl(fd, SIOCSIFFLAGS, &request);
	close(fd);
}

static void set_environment(const struct init_job *job, const struct init_user *user)
{
	clearenv();
	putenv((char *)(uintptr_t)usual_path);
	setenv("HOME", user->home, 1);
	setenv("USER", user->name, 1);
	setenv("LOGNAME", user->name, 1);
	setenv("SHELL", user->shell, 1);
	setenv("TERM", "dumb", 1);
	for (size_t i = 0; i < job->n_env; i++)
		putenv(job->env[i]);
}

/* streams: NULL for the root's own init, who gets the consoles themselves. */
static void set_streams(const struct init_job *job, const struct init_streams *streams, uid_t owner)
{
	dup2(job->terminal ? console.command : console.null, STDIN_FILENO);
	dup2(console.command, STDOUT_FILENO);
	dup2(console.errors, STDERR_FILENO);
	if (streams)
		init_streams_give(streams, owner);
	if (job->terminal)
		ioctl(STDIN_FILENO, TIOCSCTTY, 0);
}

static int failed_directory(const char *path, int error)
{
	char what[256];

	snprintf(what, sizeof(what), "--chdir %s", path);
	return init_failed(-error, what);
}

static int enter_directory(const struct init_job *job, const struct init_user *user)
{
	if (job->chdir && chdir(job->chdir) < 0)
		return failed_directory(job->chdir, errno);
	if (!job->chdir && !job->args[0] && chdir(user->home) < 0)
		return 0; /* a shell is useful in / too */
	return 0;
}

static _Noreturn void exec_command(const struct init_job *job, const struct init_user *user,
                                   const struct command *command)
{
	char *shell[] = {(char *)(uintptr_t)user->shell, NULL};
	char **argv = job->args[0] ? job->args : shell;
	int status;

	setsid();
	init_freeze_enter(command->group);
	set_streams(job, &command->streams, user->uid);
	if (init_become(user) < 0 || enter_directory(job, user) < 0)
		_exit(INIT_REFUSED);
	init_say("start\n");
	execvp(argv[0], argv);
	if (!job->args[0] && errno == ENOENT) {
		shell[0] = (char *)(uintptr_t) "/bin/sh";
		execv(shell[0], shell);
	}
	status = errno == ENOENT || errno == ENOTDIR ? INIT_NOT_FOUND : INIT_REFUSED;
	init_say("refused %d %s: %s\n", status, argv[0], strerror(errno));
	_exit(status);
}

/* One line from the host. */
static void obey(struct init_streams *streams, const char *line)
{
	unsigned short rows, cols;

	if (sscanf(line, "%hu %hu", &rows, &cols) == 2)
		resize(rows, cols);
	else
		init_streams_hear(streams, line);
}

static void hear(struct init_streams *streams)
{
	static char text[256]; /* a line may come in parts */
	static size_t len;
	ssize_t n = read(console.status, text + len, sizeof(text) - 1 - len);
	char *line = text;

	if (n <= 0)
		return;
	len += (size_t)n;
	text[len] = '\0';
	for (char *end; (end = strchr(line, '\n')); line = end + 1) {
		*end = '\0';
		obey(streams, line);
	}
	len = strlen(line);
	memmove(text, line, len);
}

/* The command's status as a shell counts, or -1 while it runs. */
static int reap(const struct command *c)
{
	int state;
	pid_t pid;

	while ((pid = waitpid(-1, &state, WNOHANG)) > 0) {
		if (pid == c->pid)
			return WIFSIGNALED(state) ? 128 + WTERMSIG(state) : WEXITSTATUS(state);
	}
	return -1;
}

static void take_signal(struct command *c, int signals)
{
	struct signalfd_siginfo info;

	if (read(signals, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGINT)
		c->frozen = init_freeze_toggle(c->group, c->frozen);
}

/* Answers the command's status when it has ended. */
static int wait_for(struct command *c, int signals)
{
	struct pollfd fds[2 + INIT_STREAMS] = {{.fd = signals, .events = POLLIN},
	                                       {.fd = console.status, .events = POLLIN}};
	int status, n;

	while ((status = reap(c)) < 0) {
		init_streams_poll(&c->streams, fds + 2);
		n = poll(fds, 2 + INIT_STREAMS, c->frozen ? FROZEN_MS : -1);
		if (n == 0)
			c->frozen = init_freeze_toggle(c->group, true);
		if (n <= 0)
			continue;
		if (fds[0].revents)
			take_signal(c, signals);
		init_streams_move(&c->streams, fds + 2);
		if (fds[1].revents & POLLIN)
			hear(&c->streams);
	}
	return status;
}

static int run_command(const struct init_job *job, const struct init_user *user, struct command *c)
{
	sigset_t set, before;
	int signals, status;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, &before);
	signal(SIGPIPE, SIG_IGN);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	c->pid = fork();
	if (c->pid < 0 || signals < 0)
		return init_failed(-errno, "fork");
	if (c->pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		sigprocmask(SIG_SETMASK, &before, NULL);
		exec_command(job, user, c);
	}
	init_streams_begin(&c->streams);
	status = wait_for(c, signals);
	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	init_streams_finish(&c->streams);
	return status;
}

/* The root's own init expects to be process 1 and to find its console; it ends the guest itself. */
static void become_init(const struct init_job *job, const struct init_user *user)
{
	int status;

	mount("/dev/tty0", "/dev/console", NULL, MS_BIND, NULL);
	set_streams(job, NULL, 0);
	if (enter_directory(job, user) < 0)
		return;
	init_say("start\n");
	execvp(job->args[0], job->args);
	status = errno == ENOENT || errno == ENOTDIR ? INIT_NOT_FOUND : INIT_REFUSED;
	init_say("refused %d %s: %s\n", status, job->args[0], strerror(errno));
}

static int work(const struct init_job *job)
{
	struct init_user user = {0};
	struct command command = {.group = job->init ? -1 : init_freeze_open()};
	int r = open_consoles(job);

	if (r < 0 || (r = init_streams_open(job, &command.streams)) < 0 || (r = init_mount_all(job)) < 0 ||
	    (r = enter_root()) < 0)
		return r;
	command.streams.to[0] = console.command;
	command.streams.to[1] = console.errors;
	r = init_find_user(job->user ? job->user : "0", &user);
	if (r < 0)
		return r;
	start_loopback();
	set_environment(job, &user);
	if (job->init) {
		become_init(job, &user);
		return -ENOEXEC;
	}
	fchown(console.command, user.uid, (gid_t)-1);
	fchown(console.errors, user.uid, (gid_t)-1);
	return run_command(job, &user, &command);
}

int main(void)
{
	struct init_job job;
	int r;

	mkdir("/dev", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	umask(022);
	console.status = open_console("/dev/tty1", true);
	r = init_read_job(&job);
	if (r < 0)
		init_failed(r, "/job");
	else
		r = work(&job);
	if (r >= 0) {
		tcdrain(console.command);
		tcdrain(console.errors);
		sync(); /* a status says that the host has everything */
		init_say("status %d\n", r);
	}
	power_off();
}
