/*
 * cmd_clean: takes away what the dead have left: mounts without a daemon, directories of killed runs.
 * Invariant: what somebody uses, keeps or owns besides the caller stays.
 */
#include "cmd.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "umlfs/mounts.h"
#include "umlfs/scratch.h"

enum { FLAG_DRY_RUN = 'N' };

struct clean {
	bool dry_run;
	char **mounts; /* mountpoints whose daemons are dead, on the heap */
	size_t n_mounts;
	int failed;
};

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
			printf("%s: dead mount\n", c->mounts[i]);
	}
	for (size_t i = 0; i < c->n_mounts; i++)
		free(c->mounts[i]);
	free(c->mounts);
	return r;
}

static int clean_directory(void *arg, const char *path)
{
	struct clean *c = arg;

	if (!c->dry_run && scratch_remove(path, &cmd_log) < 0)
		c->failed++;
	else
		printf("%s: directory of a killed run\n", path);
	return 0;
}

static int take_dry_run(void *arg, int flag, const char *value)
{
	*(bool *)arg = true;
	return 0;
}

static int run_clean(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "dry-run", .val = FLAG_DRY_RUN}, {0}};
	struct clean c = {0};
	struct cmd_flags flags = {.letters = "n", .names = names, .arg = &c.dry_run, .take = take_dry_run};
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
		   "because it was killed with all its processes. Sessions of your own stay, also\n"
		   "those that `umlfs run --keep` left. A line for each thing taken away.\n\n"
		   "  -n, --dry-run  only say what there is\n",
	.run = run_clean,
};
