/*
 * run_plan: finds out what the options mean on this machine.
 * Invariant: nothing is made or changed; what can be refused is refused here, before anything is.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "umlfs/control.h"
#include "umlfs/mounts.h"

/* A file that stands beside this program or where it was installed, on the heap. */
static int find_part(const char *name, const char *installed, char **path_out)
{
	char path[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash;

	if (len > 0) {
		path[len] = '\0';
		slash = strrchr(path, '/');
		snprintf(slash + 1, sizeof(path) - (size_t)(slash + 1 - path), "%s", name);
		if (access(path, R_OK) == 0)
			installed = path;
	}
	if (access(installed, R_OK) < 0)
		return log_error(&cmd_log, -errno, "%s: %s: install umlfs again", installed, strerror(errno));
	*path_out = strdup(installed);
	return *path_out ? 0 : -ENOMEM;
}

/* The value of a line of STATUS, on the heap, or NULL. */
static char *value_of(const char *status, const char *word)
{
	size_t len = strlen(word);
	const char *at = status;

	while (at && !(strncmp(at, word, len) == 0 && at[len] == ' ')) {
		at = strchr(at, '\n');
		at = at ? at + 1 : NULL;
	}
	return at ? strndup(at + len + 1, strcspn(at + len + 1, "\n")) : NULL;
}

/* What the session has on it would be lost by the reset at the end. */
static int check_unchanged(const struct run_plan *plan, const char *status)
{
	char *changes = value_of(status, "changes");
	bool changed = changes && strcmp(changes, "0") != 0;

	free(changes);
	if (!changed || (plan->options->keep == RUN_KEEP_ALWAYS && !plan->options->snapshot))
		return 0;
	return log_error(&cmd_log, -EBUSY,
	                 "%s: has changes that no snapshot holds, and a reset would drop them: "
	                 "`umlfs snapshot` or `umlfs reset` it first",
	                 plan->options->place);
}

static int lock_session(struct run_plan *plan)
{
	struct stat st;

	plan->lock = open(plan->session, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (plan->lock < 0 || fstatat(plan->lock, "manifest", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return log_errno(&cmd_log, -errno, "%s", plan->session);
	if (st.st_uid != geteuid()) /* a mount would say so; one that is there lets only its owner in */
		return log_error(
			&cmd_log, -EPERM,
			"%s: belongs to user %u: run it as that user, who could not use what this one makes there",
			plan->options->place, (unsigned int)st.st_uid);
	if (flock(plan->lock, LOCK_EX | LOCK_NB) < 0)
		return log_error(
			&cmd_log, -EBUSY,
			"%s: another `umlfs run` is using it: wait, or run from its base, as many at once as you like",
			plan->options->place);
	return 0;
}

/* A mount whose daemon is dead does not count: the next mount detaches it. */
static void find_mount(struct run_plan *plan)
{
	plan->mounted = mounts_find_session(plan->session, &plan->mountpoint) == 0;
	if (plan->mounted && !mounts_answers(plan->mountpoint)) {
		plan->mounted = false;
		free(plan->mountpoint);
		plan->mountpoint = NULL;
	}
}

static int plan_session(struct run_plan *plan)
{
	struct request request = {.kind = REQUEST_STATUS};
	char *status;
	int r = lock_session(plan);

	if (r < 0)
		return r;
	find_mount(plan);
	r = control_request(plan->session, &request, &cmd_log, &status);
	if (r < 0)
		return r;
	plan->base = value_of(status, "base");
	if (plan->base)
		cmd_decode_path(plan->base);
	r = plan->base ? check_unchanged(plan, status) : -EUCLEAN;
	free(status);
	return r;
}

static int plan_place(struct run_plan *plan)
{
	const char *place = plan->options->place;
	char *path = realpath(place, NULL);
	struct stat st;

	if (path && control_is_session(path)) {
		plan->session = path;
		return plan_session(plan);
	}
	plan->base = path;
	if (!path && errno == ENOENT)
		return log_error(&cmd_log, -ENOENT,
		                 "%s: no such base or session: `umlfs import ARCHIVE %s` makes a base", place, place);
	if (!path || stat(path, &st) < 0)
		return log_errno(&cmd_log, -errno, "%s", place);
	if (!S_ISDIR(st.st_mode))
		return log_error(&cmd_log, -ENOTDIR,
		                 "%s: is neither a base nor a session: make a base of it with `umlfs import`", place);
	if (plan->options->snapshot)
		return log_error(&cmd_log, -EINVAL, "--snapshot %s: a base has no snapshots: give a session",
		                 plan->options->snapshot);
	return 0;
}

/* HOST:GUEST, behind which ":ro" or ":rw" may stand when it is a share's. The option's own check saw that. */
static int plan_pair(const char *text, bool share, struct run_share *out)
{
	const char *flag = share ? "--share" : "--file";
	const char *colon = strstr(text, ":/");
	const char *suffix = share ? strchr(colon + 1, ':') : NULL;
	char *host = strndup(text, (size_t)(colon - text));
	struct stat st;
	int r = 0;

	out->guest = colon + 1;
	out->read_only = suffix && strcmp(suffix, ":ro") == 0;
	out->guest_len = (int)(suffix ? (size_t)(suffix - out->guest) : strlen(out->guest));
	out->host = host ? realpath(host, NULL) : NULL;
	if (!out->host || stat(out->host, &st) < 0)
		r = log_error(&cmd_log, -errno, "%s %s: %s: give a %s that is there and that you may read", flag,
		              host ? host : text, strerror(errno), share ? "directory" : "file");
	else if (share && !S_ISDIR(st.st_mode))
		r = log_error(&cmd_log, -ENOTDIR, "%s %s: is no directory: --file gives a file to a guest", flag, host);
	else if (!share && !S_ISREG(st.st_mode))
		r = log_error(&cmd_log, -EINVAL, "%s %s: is no regular file: --share gives a directory to a guest",
		              flag, host);
	free(host);
	return r;
}

static int plan_pairs(struct run_plan *plan)
{
	const struct run_options *o = plan->options;
	int r = 0;

	plan->shares = calloc(o->shares.n + 1, sizeof(*plan->shares));
	plan->files = calloc(o->files.n + 1, sizeof(*plan->files));
	if (!plan->shares || !plan->files)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < o->shares.n; i++)
		r = plan_pair(o->shares.at[i], true, &plan->shares[i]);
	for (size_t i = 0; r == 0 && i < o->files.n; i++)
		r = plan_pair(o->files.at[i], false, &plan->files[i]);
	return r;
}

static bool same_file(int a, int b)
{
	struct stat st_a, st_b;

	return fstat(a, &st_a) == 0 && fstat(b, &st_b) == 0 && st_a.st_dev == st_b.st_dev && st_a.st_ino == st_b.st_ino;
}

/* A terminal is asked for with --tty, and /dev/null is what a command gets anyhow. */
static bool is_piped_input(void)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	bool empty = null >= 0 && same_file(STDIN_FILENO, null);

	if (null >= 0)
		close(null);
	return !empty && !isatty(STDIN_FILENO);
}

static int plan_streams(struct run_plan *plan)
{
	const struct run_options *o = plan->options;
	bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);

	if (!terminal && !o->init && !o->dry_run && (o->tty || !o->command[0]))
		return log_error(&cmd_log, -ENOTTY, "run: standard input and output are no terminal: give a COMMAND%s",
		                 o->tty ? ", and not --tty" : "");
	plan->terminal = terminal && (o->init || o->tty || !o->command[0]);
	run_terminal_size(&plan->rows, &plan->cols);
	plan->apart = !plan->terminal && !same_file(STDOUT_FILENO, STDERR_FILENO);
	if (plan->terminal || o->init)
		return 0;
	plan->input_piped = is_piped_input();
	plan->output_piped = !isatty(STDOUT_FILENO);
	plan->errors_piped = !isatty(STDERR_FILENO);
	return 0;
}

static int plan_kernel(struct run_plan *plan)
{
	int r = uml_find(plan->options->kernel, &cmd_log, &plan->kernel, &plan->version);

	if (r < 0)
		return r;
	plan->memory_dir = uml_memory_dir();
	if (!plan->memory_dir)
		return log_error(&cmd_log, -EACCES,
		                 "/dev/shm: the guest's memory must be executable: mount it with exec, or set TMPDIR");
	if (uml_needs_preload(&plan->version))
		return find_part("libumlfs-xstate.so", UMLFS_XSTATE, &plan->preload);
	return 0;
}

static void free_shares(struct run_share *shares, size_t n)
{
	for (size_t i = 0; shares && i < n; i++)
		free(shares[i].host);
	free(shares);
}

void run_free_plan(struct run_plan *plan)
{
	free_shares(plan->shares, plan->options->shares.n);
	free_shares(plan->files, plan->options->files.n);
	free(plan->kernel);
	free(plan->preload);
	free(plan->init);
	free(plan->base);
	free(plan->session);
	free(plan->mountpoint);
	if (plan->lock >= 0)
		close(plan->lock);
	if (plan->log >= 0)
		close(plan->log);
}

int run_make_plan(const struct run_options *options, struct run_plan *out)
{
	struct run_plan plan = {.options = options, .lock = -1, .log = -1};
	int r = plan_streams(&plan);

	if (r == 0)
		r = find_part("umlfs-init", UMLFS_LIBEXECDIR "/umlfs-init", &plan.init);
	if (r == 0)
		r = plan_kernel(&plan);
	if (r == 0)
		r = plan_pairs(&plan);
	if (r == 0)
		r = plan_place(&plan);
	if (r == 0)
		*out = plan;
	else
		run_free_plan(&plan);
	return r;
}
