/*
 * mount_main: the programs mount.fuse.umlfs and umount.fuse.umlfs, which mount(8) and umount(8) call for the type fuse.umlfs.
 * Takes the options of the kernel's overlay: lowerdir= is the base, upperdir= the session.
 * Invariant: an option is understood, or known to be of no meaning here, or refused.
 */
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse_opt.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd.h"
#include "umlfs/mounts.h"

/* mount(8), EXIT STATUS. */
enum { MOUNT_USAGE = 1, MOUNT_FAILED = 32 };

enum { WORDS_MAX = 16 };

struct helper {
	char *lower, *upper, *size, *inodes;
	char *options; /* for `umlfs mount -o` */
	int guest, fake;
	const char *source, *mountpoint;
};

enum { KEY_PASS = 1, KEY_NOTHING, KEY_NAMESPACE };

/* Rows of the table; the offset of one without a field is -1U. */
#define FIELD(name, field)                                                                                             \
	{                                                                                                              \
		name, offsetof(struct helper, field), 1                                                                \
	}
#define TO_TAKE(name, key)                                                                                             \
	{                                                                                                              \
		name, (unsigned long)-1U, key                                                                          \
	}
#define NOTHING(name) TO_TAKE(name, KEY_NOTHING)
#define PASS(name)    TO_TAKE(name, KEY_PASS)

static const struct fuse_opt known[] = {
	FIELD("lowerdir=%s", lower),
	FIELD("upperdir=%s", upper),
	FIELD("size=%s", size),
	FIELD("nr_inodes=%s", inodes),
	FIELD("guest", guest),
	FIELD("-f", fake),
	NOTHING("-v"),
	PASS("ro"),
	PASS("posix"),
	PASS("xattr"),
	PASS("owner=caller"),
	PASS("allow_other"),
	PASS("nosuid"),
	PASS("nodev"),
	PASS("noexec"),
	/* What fstab(5) and mount(8) add, and what is so anyway. */
	NOTHING("rw"),
	NOTHING("suid"),
	NOTHING("dev"),
	NOTHING("exec"),
	NOTHING("defaults"),
	NOTHING("auto"),
	NOTHING("noauto"),
	NOTHING("user"),
	NOTHING("users"),
	NOTHING("nouser"),
	NOTHING("_netdev"),
	NOTHING("nofail"),
	NOTHING("async"),
	NOTHING("noatime"),
	NOTHING("nodiratime"),
	NOTHING("relatime"),
	NOTHING("x-%s"),
	NOTHING("default_permissions"),
	NOTHING("-n"),
	NOTHING("-s"),
	/*
	 * Of the kernel's overlay: a session needs no directory beside it to work in, and renamed directories, hard links and
	 * inode numbers are always right here.
	 */
	NOTHING("workdir=%s"),
	NOTHING("redirect_dir=%s"),
	NOTHING("index=%s"),
	NOTHING("metacopy=%s"),
	NOTHING("xino=%s"),
	NOTHING("nfs_export=%s"),
	NOTHING("uuid=%s"),
	NOTHING("userxattr"),
	NOTHING("volatile"),
	NOTHING("fsync=%s"),
	NOTHING("-t "),
	TO_TAKE("-N ", KEY_NAMESPACE),
	FUSE_OPT_END,
};

static int take_place(struct helper *h, const char *arg)
{
	if (!h->source)
		h->source = arg;
	else if (!h->mountpoint)
		h->mountpoint = arg;
	else
		return log_error(&cmd_log, -1, "%s: unexpected argument", arg);
	return 0;
}

/* See fuse_opt_parse() in <fuse_opt.h>: 0 the option is dealt with, -1 it is refused. */
static int take(void *data, const char *arg, int key, struct fuse_args *args)
{
	struct helper *h = data;

	switch (key) {
	case KEY_NOTHING:
		return 0;
	case KEY_PASS:
		return fuse_opt_add_opt(&h->options, arg);
	case KEY_NAMESPACE:
		return log_error(&cmd_log, -1,
		                 "-N: another mount namespace cannot be mounted in: enter it with nsenter(1)");
	case FUSE_OPT_KEY_NONOPT:
		return take_place(h, arg);
	default:
		return log_error(&cmd_log, -1, "-o %s: unknown mount option", arg);
	}
}

/* The session is where the overlay's changes would be; without lowerdir= the source is the base. */
static int check(struct helper *h)
{
	unsigned long long number;

	if (!h->source || !h->mountpoint)
		return log_error(&cmd_log, -1, "mount.fuse.umlfs: a source and a mountpoint are needed");
	if (!h->lower)
		h->lower = strdup(h->source);
	if (!h->lower || !h->upper)
		return log_error(&cmd_log, -1, "%s: no session: give it as -o upperdir=SESSION", h->mountpoint);
	if (access(h->lower, F_OK) < 0 && strchr(h->lower, ':'))
		return log_error(&cmd_log, -1,
		                 "lowerdir=%s: several: give one, or make one base of them with `umlfs import`",
		                 h->lower);
	if (h->size && !cmd_read_number(h->size, &number))
		return log_error(&cmd_log, -1, "-o size=%s: not a number above 0, such as 500M", h->size);
	if (h->inodes && !cmd_read_number(h->inodes, &number))
		return log_error(&cmd_log, -1, "-o nr_inodes=%s: not a number above 0, such as 10000", h->inodes);
	if (!h->guest && fuse_opt_add_opt(&h->options, "posix") < 0)
		return -1;
	return 0;
}

static void fill_words(const struct helper *h, const char *words[WORDS_MAX])
{
	int n = 0;

	words[n++] = "umlfs";
	words[n++] = "mount";
	if (h->options) {
		words[n++] = "-o";
		words[n++] = h->options;
	}
	if (h->size) {
		words[n++] = "--size";
		words[n++] = h->size;
	}
	if (h->inodes) {
		words[n++] = "--inodes";
		words[n++] = h->inodes;
	}
	words[n++] = "--";
	words[n++] = h->lower;
	words[n++] = h->upper;
	words[n++] = h->mountpoint;
	words[n] = NULL;
}

/* What umlfs answers in its exit status, as mount(8) has it. Its output is not for mount's users. */
static int run_umlfs(const char **words)
{
	int status, null;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		dup2(null, STDOUT_FILENO);
		_exit(cmd_become("umlfs", (char **)(uintptr_t)words));
	}
	if (pid < 0)
		return log_errno(&cmd_log, -errno, "fork") < 0 ? MOUNT_FAILED : EXIT_DONE;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_DONE ? EXIT_DONE : MOUNT_FAILED;
}

static int mount_as_told(struct fuse_args *args, struct helper *h)
{
	const char *words[WORDS_MAX];

	if (fuse_opt_parse(args, h, known, take) < 0 || check(h) < 0)
		return MOUNT_USAGE;
	if (h->fake)
		return EXIT_DONE;
	fill_words(h, words);
	return run_umlfs(words);
}

static int run_mount(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	struct helper h = {0};
	int r = mount_as_told(&args, &h);

	fuse_opt_free_args(&args);
	free(h.lower);
	free(h.upper);
	free(h.size);
	free(h.inodes);
	free(h.options);
	return r;
}

static bool has_flag(int argc, char **argv, char flag)
{
	for (int i = 2; i < argc; i++) {
		if (argv[i][0] == '-' && strchr(argv[i], flag))
			return true;
	}
	return false;
}

/*
 * umount.fuse.umlfs MOUNTPOINT [-flnrv] [-t TYPE] [-N NAMESPACE]: returns when everything is on disk, or (-l) at once, and what is
 * open stays usable until it is closed.
 */
static int run_umount(int argc, char **argv)
{
	const char *words[] = {"umlfs", "umount", argc > 1 ? argv[1] : "", NULL};
	char *session = NULL;
	int r;

	if (!has_flag(argc, argv, 'l'))
		return run_umlfs(words);
	r = mounts_find_mountpoint(argv[1], &session);
	if (r < 0)
		log_error(&cmd_log, r, "%s: nothing of umlfs is mounted there", argv[1]);
	else
		r = mounts_unmount(argv[1], true, &cmd_log);
	free(session);
	return r < 0 ? MOUNT_FAILED : EXIT_DONE;
}

int main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');
	const char *name = slash ? slash + 1 : argv[0];

	return strncmp(name, "umount", strlen("umount")) == 0 ? run_umount(argc, argv) : run_mount(argc, argv);
}
