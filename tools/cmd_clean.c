/*
 * cmd_clean: takes away what the dead have left: mounts without a daemon, directories of killed runs, and what their guests
 * still run.
 * Invariant: what somebody uses, keeps or owns besides the caller stays.
 */
#include "cmd.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "umlfs/mounts.h"
#include "umlfs/scratch.h"

enum { FLAG_DRY_RUN = 'N', END_MS = 10000 };

struct clean {
	bool dry_run;
	char **mounts; /* mountpoints whose daemons are dead, on the heap */
	size_t n_mounts;
	int failed;
};

static const char *would_be(const struct clean *c)
{
	return c->dry_run ? "would be " : "";
}

static int gather_mount(void *arg, const struct mount_info *mount)
{
	struct clean *c = arg;
	char **grown;

	if ((geteuid() != 0 && mount->user != geteuid()) || !mounts_is_dead(mount))
		return 0;
	grown = reallocarray(c->mounts, c->n_mounts + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	c->mounts = grown;
	grown[c->n_mounts] = strdup(mount->mountpoint);
	return grown[c->n_mounts++] ? 0 : -ENOMEM;
}

/* Innermost first, as they were mounted one on another. */
static int clean_mounts(struct clean *c)
{
	int r = mounts_each(gather_mount, c);

	for (size_t i = c->n_mounts; r >= 0 && i-- > 0 && c->mounts[i];) {
		if (!c->dry_run && mounts_unmount(c->mounts[i], true, &cmd_log) < 0)
			c->failed++;
		else
			printf("%s: dead mount: %sdetached\n", c->mounts[i], would_be(c));
	}
	for (size_t i = 0; i < c->n_mounts; i++)
		free(c->mounts[i]);
	free(c->mounts);
	return r;
}

/* The process that led those of the guest in a run's directory, as its kernel has left it in a file; 0: there was none. */
static pid_t kernel_in(const char *dir)
{
	const char *umid = strrchr(dir, '/') + 1;
	char path[PATH_MAX];
	FILE *file = NULL;
	int pid = 0;

	if (snprintf(path, sizeof(path), "%s/%s/pid", dir, umid) < PATH_MAX)
		file = fopen(path, "re");
	if (file && fscanf(file, "%d", &pid) != 1)
		pid = 0;
	if (file)
		fclose(file);
	return pid > 1 ? pid : 0;
}

/* Its group alone would not do, for numbers are used again; nor the directory, where a person may be looking around. */
static bool is_of_guest(pid_t pid, pid_t kernel, const char *dir)
{
	char link[64], path[PATH_MAX];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/%d/cwd", (int)pid);
	len = readlink(link, path, sizeof(path));
	return len == (ssize_t)strlen(dir) && memcmp(path, dir, (size_t)len) == 0 && getpgid(pid) == kernel;
}

/* Returns when the process has ended; false when it goes on. */
static bool end_process(int pidfd)
{
	struct pollfd fd = {.fd = pidfd, .events = POLLIN};

	if (pidfd < 0 || (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH))
		return false;
	return poll(&fd, 1, END_MS) > 0;
}

/* Opened before it is looked at, so that it is no later process of this number that ends. */
static void clean_process(struct clean *c, pid_t pid, pid_t kernel, const char *dir)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (is_of_guest(pid, kernel, dir)) {
		if (c->dry_run || end_process(pidfd)) {
			printf("%d: process of a killed run's guest: %sended\n", (int)pid, would_be(c));
		} else {
			log_error(&cmd_log, 0, "%d: process of a killed run's guest: cannot be ended: kill it",
			          (int)pid);
			c->failed++;
		}
	}
	if (pidfd >= 0)
		close(pidfd);
}

/* A kernel that is killed leaves helpers, and the process of the guest that it let run just then. */
static void clean_guest(struct clean *c, const char *dir)
{
	pid_t kernel = kernel_in(dir);
	DIR *all = kernel ? opendir("/proc") : NULL;
	struct dirent *entry;

	while (all && (entry = readdir(all))) {
		pid_t pid = atoi(entry->d_name);

		if (pid > 0)
			clean_process(c, pid, kernel, dir);
	}
	if (all)
		closedir(all);
}

static int clean_directory(void *arg, const char *path)
{
	struct clean *c = arg;

	clean_guest(c, path);
	if (!c->dry_run && scratch_remove(path, &cmd_log) < 0)
		c->failed++;
	else
		printf("%s: directory of a killed run: %sremoved\n", path, would_be(c));
	return 0;
}

static int run_clean(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "dry-run", .val = FLAG_DRY_RUN}, {0}};
	struct clean c = {0};
	struct cmd_flags flags = {.letters = "n", .names = names, .arg = &c.dry_run, .take = cmd_take_true};
	int first;
	int r = cmd_parse(self, argc, argv, &flags, 0, 0, &first);

	if (r >= 0)
		return r;
	r = clean_mounts(&c);
	if (r < 0)
		return cmd_exit(log_errno(&cmd_log, r, "the mount table"));
	r = scratch_sweep(SCRATCH_RUN, clean_directory, &c);
	if (r == 0)
		r = scratch_sweep(SCRATCH_DOCTOR, clean_directory, &c);
	if (r < 0)
		return cmd_exit(log_errno(&cmd_log, r, "the temporary directory"));
	return c.failed ? EXIT_FAILED : EXIT_DONE;
}

const struct command cmd_clean = {
	.name = "clean",
	.usage = "[--dry-run]",
	.help = "take away dead mounts and what killed runs have left",
	.details = "Detaches your mounts (as root: everybody's) whose daemon has died, and removes\n"
		   "the directories that `umlfs run` made in $TMPDIR or /tmp and could not remove,\n"
		   "because it was killed with all its processes; what its guest still runs is\n"
		   "ended. Prints a line for each of these. Sessions of your own stay, also those\n"
		   "that `umlfs run --keep` left.\n\n"
		   "  -n, --dry-run  only say what would be done\n",
	.run = run_clean,
};
