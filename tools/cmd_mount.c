/*
 * cmd_mount: serves a session, in the background unless told otherwise.
 * Invariant: when the command has ended with 0, the mount answers; when not, nothing is mounted and no
 * process is left.
 */
#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd_bus.h"
#include "umlfs/mounts.h"
#include "umlfs/serve.h"

enum {
	ANSWER_SECONDS = 10, /* from the moment when the session is loaded */
	END_SECONDS = 2,     /* for a daemon that was asked to end */
	NOTE_SECONDS = 1,    /* of silence on a terminal */
};

enum { FLAG_SIZE = 'S', FLAG_INODES = 'I' };

struct mount_flags {
	const struct command *self;
	bool foreground;
	struct serve_options serve;
};

static int take_option(struct mount_flags *flags, const char *option)
{
	static const struct {
		const char *name;
		size_t offset;
	} known[] = {
		{"posix", offsetof(struct serve_options, posix)},
		{"xattr", offsetof(struct serve_options, xattr)},
		{"owner=caller", offsetof(struct serve_options, owner_caller)},
		{"allow_other", offsetof(struct serve_options, allow_other)},
		{"ro", offsetof(struct serve_options, read_only)},
		{"nosuid", offsetof(struct serve_options, nosuid)},
		{"nodev", offsetof(struct serve_options, nodev)},
		{"noexec", offsetof(struct serve_options, noexec)},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(option, known[i].name) == 0) {
			*(bool *)((char *)&flags->serve + known[i].offset) = true;
			return 0;
		}
	}
	return cmd_usage_error(flags->self, "-o %s: unknown mount option", option);
}

static int take_number(struct mount_flags *flags, const char *name, const char *value, const char *example,
                       unsigned long long *out)
{
	if (cmd_read_number(value, out))
		return 0;
	return cmd_usage_error(flags->self, "%s %s: not a number above 0, such as %s", name, value, example);
}

static int take(void *arg, int flag, const char *value)
{
	struct mount_flags *flags = arg;
	char options[256];
	char *rest = options;
	char *option;
	int r = 0;

	switch (flag) {
	case 'f':
		flags->foreground = true;
		return 0;
	case FLAG_SIZE:
		return take_number(flags, "--size", value, "500M", &flags->serve.bytes_max);
	case FLAG_INODES:
		return take_number(flags, "--inodes", value, "10000", &flags->serve.inodes_max);
	default:
		break;
	}
	if (snprintf(options, sizeof(options), "%s", value) >= (int)sizeof(options))
		return cmd_usage_error(flags->self, "-o: too long");
	while (r == 0 && (option = strsep(&rest, ",")))
		r = take_option(flags, option);
	return r;
}

static void print_ready(void *arg, const char *mountpoint)
{
	printf("%s\n", mountpoint);
	fflush(stdout);
}

/* What the daemon's process knows of the command that waits for it. */
struct daemon {
	const struct mount_flags *flags;
	int pipe; /* gets one byte when the session is loaded, then the mountpoint when it answers */
};

static void tell_opened(void *arg)
{
	const struct daemon *d = arg;

	if (write(d->pipe, "o", 1) != 1)
		_exit(EXIT_FAILED);
}

/* From here on nobody waits: messages go to the session's log. */
static void tell_ready(void *arg, const char *mountpoint)
{
	struct daemon *d = arg;
	char path[PATH_MAX];
	size_t len = strlen(mountpoint);
	int fd = -1;

	if (snprintf(path, sizeof(path), "%s/log", d->flags->serve.session) < PATH_MAX)
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (write(d->pipe, mountpoint, len) == (ssize_t)len)
		close(d->pipe);
	dup2(fd < 0 ? STDOUT_FILENO : fd, STDERR_FILENO); /* that one leads nowhere */
	if (fd >= 0)
		close(fd);
	if (chdir("/") < 0)
		log_errno(&cmd_log, -errno, "/");
}

/* The daemon keeps nothing of its parent's but standard error, and that only until the mount answers. */
static void leave_parent(struct daemon *d)
{
	int null = open("/dev/null", O_RDWR);

	setsid();
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(d->pipe, 3);
	close_range(4, UINT_MAX, 0);
	fcntl(3, F_SETFD, FD_CLOEXEC);
	d->pipe = 3;
}

static int run_daemon(const struct mount_flags *flags, int pipe_fd)
{
	struct daemon d = {.flags = flags, .pipe = pipe_fd};
	struct serve_options options = flags->serve;

	leave_parent(&d);
	options.opened = tell_opened;
	options.ready = tell_ready;
	options.ready_arg = &d;
	return cmd_exit(serve_run(&options));
}

/* Reads what the daemon says: 1 and a byte or more, 0 when it ended, -1 when the time is over. */
static ssize_t hear(int fd, char *text, size_t size, int seconds)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	int n;

	do {
		n = poll(&poll_fd, 1, seconds < 0 ? -1 : seconds * 1000);
	} while (n < 0 && errno == EINTR);
	return n <= 0 ? -1 : read(fd, text, size);
}

/* A daemon that does not answer is asked to end, then made to, and its mount is taken away. */
static void end_daemon(const struct mount_flags *flags, int fd, pid_t pid)
{
	char rest[64];
	ssize_t n;

	kill(pid, SIGTERM);
	do {
		n = hear(fd, rest, sizeof(rest), END_SECONDS);
	} while (n > 0);
	if (n == 0)
		return;
	kill(pid, SIGKILL);
	mounts_end(flags->serve.session, NULL);
}

static int wait_for_mount(const struct mount_flags *flags, int fd, pid_t pid)
{
	char text[PATH_MAX + 1] = "";
	size_t len = 0;
	ssize_t n = hear(fd, text, 1, NOTE_SECONDS);
	int status = 0;

	if (n < 0) {
		if (isatty(STDERR_FILENO))
			log_note(&cmd_log, "%s: being indexed ...", flags->serve.base);
		n = hear(fd, text, 1, -1);
	}
	while (n > 0 && len < PATH_MAX) {
		n = hear(fd, text + len, PATH_MAX - len, ANSWER_SECONDS);
		len += n > 0 ? (size_t)n : 0;
	}
	if (n == 0 && len > 0) {
		text[len] = '\0';
		print_ready(NULL, text);
		if (ferror(stdout)) /* a command that fails leaves no mount; cmd_end() tells of it */
			mounts_end(flags->serve.session, &cmd_log);
		return EXIT_DONE;
	}
	if (n < 0) {
		log_error(&cmd_log, 0, "%s: did not answer within %d s: ended", flags->serve.session, ANSWER_SECONDS);
		end_daemon(flags, fd, pid);
	}
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status) && n == 0)
		log_error(&cmd_log, 0, "%s: the daemon died of signal %d", flags->serve.session, WTERMSIG(status));
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_DONE)
		log_error(&cmd_log, 0, "%s: unmounted before it answered", flags->serve.session);
	return EXIT_FAILED;
}

static int run_in_background(const struct mount_flags *flags)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return cmd_exit(log_errno(&cmd_log, -errno, "pipe"));
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return cmd_exit(log_errno(&cmd_log, -errno, "fork"));
	if (pid == 0)
		return run_daemon(flags, fds[1]);
	close(fds[1]);
	return wait_for_mount(flags, fds[0], pid);
}

static int run_mount(const struct command *self, int argc, char **argv)
{
	struct mount_flags flags = {.self = self, .serve = {.log = &cmd_log, .ready = print_ready}};
	static const struct option names[] = {{.name = "size", .has_arg = required_argument, .val = FLAG_SIZE},
	                                      {.name = "inodes", .has_arg = required_argument, .val = FLAG_INODES},
	                                      {0}};
	struct cmd_flags table = {.letters = "fo:", .names = names, .arg = &flags, .take = take};
	int first;
	int r = cmd_parse(self, argc, argv, &table, 2, 3, &first);

	if (r >= 0)
		return r;
	flags.serve.base = argv[first];
	flags.serve.session = argv[first + 1];
	flags.serve.mountpoint = argc - first > 2 ? argv[first + 2] : NULL;
	mounts_settle(flags.serve.session);
	cmd_catch_bus("this mount", EXIT_FAILED);
	if (!flags.foreground)
		return run_in_background(&flags);
	close_range(STDERR_FILENO + 1, UINT_MAX, 0); /* what the caller forgot to close is not the daemon's */
	return cmd_exit(serve_run(&flags.serve));
}

const struct command cmd_mount = {
	.name = "mount",
	.usage = "[-f] [-o OPTION[,OPTION...]] [--size BYTES] [--inodes N] BASE SESSION [MOUNTPOINT]",
	.help = "serve a session on a base; prints the mountpoint when it answers",
	.details = "BASE is made with `umlfs import`, or is a plain extracted directory, where the\n"
		   "uid and gid of the user who mounts it become root's. SESSION is made when it is\n"
		   "not there. The mountpoint is SESSION/rootfs when none is given.\n\n"
		   "  -f               stay in the foreground\n"
		   "  -o posix         for host processes instead of guests: permissions are\n"
		   "                   checked, files belong to who makes them, the umask counts,\n"
		   "                   xattrs are shown, and others may enter when root mounts (or\n"
		   "                   with allow_other)\n"
		   "  -o xattr         show extended attributes to guests too (one request more per\n"
		   "                   write)\n"
		   "  -o owner=caller  new files belong to who makes them, not to their directory's\n"
		   "                   owner\n"
		   "  -o allow_other   other users may enter (needs user_allow_other in\n"
		   "                   /etc/fuse.conf)\n"
		   "  -o ro            read-only\n"
		   "  -o nosuid, nodev, noexec\n"
		   "                   as in mount(8), with posix and without; nosuid and nodev are\n"
		   "                   so in any case, except when root mounts with posix\n"
		   "  --size BYTES     limit what the session's files take on the host (K, M, G, T:\n"
		   "                   times 1024), until it is unmounted; then writing fails with\n"
		   "                   ENOSPC; df shows it\n"
		   "  --inodes N       limit how many new files the session holds, until it is\n"
		   "                   unmounted\n",
	.run = run_mount,
};
