/*
 * model_mount: the model's side that goes through a mount, made by the program that UMLFS names.
 * Invariant: between two steps the session is mounted.
 * Called by model_run.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "model.h"

enum { WORDS = 12, PATIENCE = 60000 };

/* Runs the program with these words, NULL at their end, and gives back its status; what it says goes to output. */
static int run(struct model *m, const char *const *words)
{
	posix_spawn_file_actions_t files;
	char *args[WORDS + 2] = {getenv("UMLFS")};
	char output[200];
	int status = -1;
	pid_t pid;

	assert_non_null(args[0]);
	for (unsigned int i = 0; words[i]; i++) {
		assert_true(i < WORDS);
		args[i + 1] = strdup(words[i]);
	}
	snprintf(output, sizeof(output), "%s/output", m->w.place.path);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
	if (posix_spawn(&pid, args[0], &files, NULL, args, environ) == 0)
		waitpid(pid, &status, 0);
	posix_spawn_file_actions_destroy(&files);
	for (unsigned int i = 1; args[i]; i++)
		free(args[i]);
	return status;
}

/* What the last run() said: on the heap. */
static char *output(struct model *m)
{
	size_t len;
	unsigned char *bytes = place_get(m->w.place.fd, "output", &len);
	char *text = malloc(len + 1);

	assert_non_null(text);
	memcpy(text, bytes, len);
	text[len] = '\0';
	free(bytes);
	return text;
}

static void succeed(struct model *m, const char *const *words)
{
	int status = run(m, words);

	if (status != 0)
		fail_msg("umlfs %s %s: %d: %s", words[0], words[1], status, output(m));
}

static void go_in(struct model *m)
{
	m->mountfd = open(m->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->mountfd < 0)
		fail_msg("%s: %s", m->mountpoint, strerror(errno));
}

static void go_out(struct model *m)
{
	close(m->mountfd);
	m->mountfd = -1;
}

static void mount_session(struct model *m)
{
	const char *options = m->options.mount_options;
	const char *base = m->w.base;
	char imported[sizeof(m->w.base) + 16];

	snprintf(imported, sizeof(imported), "%s/imported", m->w.place.path);
	if (m->options.imported)
		base = imported;
	if (options)
		succeed(m, (const char *const[]){"mount", "-o", options, base, m->w.session, NULL});
	else
		succeed(m, (const char *const[]){"mount", base, m->w.session, NULL});
}

static void prepare(struct model *m)
{
	char imported[sizeof(m->w.base) + 16];

	snprintf(imported, sizeof(imported), "%s/imported", m->w.place.path);
	if (m->options.imported)
		succeed(m, (const char *const[]){"import", m->w.base, imported, NULL});
	snprintf(m->mountpoint, sizeof(m->mountpoint), "%s/rootfs", m->w.session);
	mount_session(m);
}

static void start(struct model *m)
{
	go_in(m);
}

static int apply(struct model *m, const struct op *op)
{
	return op_host(m->mountfd, op);
}

static int open_slot(struct model *m, unsigned int slot, const char *path)
{
	m->mount_slots[slot] = openat(m->mountfd, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	return m->mount_slots[slot] < 0 ? -errno : 0;
}

static void close_slot(struct model *m, unsigned int slot)
{
	close(m->mount_slots[slot]);
	m->mount_slots[slot] = -1;
}

static ssize_t read_slot(struct model *m, unsigned int slot, void *buf, size_t len, uint64_t at)
{
	return pread(m->mount_slots[slot], buf, len, (off_t)at);
}

static ssize_t write_slot(struct model *m, unsigned int slot, const void *buf, size_t len, uint64_t at)
{
	return pwrite(m->mount_slots[slot], buf, len, (off_t)at);
}

static int cut_slot(struct model *m, unsigned int slot, uint64_t size)
{
	return ftruncate(m->mount_slots[slot], (off_t)size);
}

static void take_snapshot(struct model *m, const char *name)
{
	succeed(m, (const char *const[]){"snapshot", m->w.session, name, NULL});
}

/* A reset refuses while the directory is open. */
static void reset(struct model *m, const char *name)
{
	go_out(m);
	succeed(m, (const char *const[]){"reset", m->w.session, name, NULL});
	go_in(m);
}

static void delete_snapshot(struct model *m, const char *name)
{
	succeed(m, (const char *const[]){"delete", m->w.session, name, NULL});
}

static pid_t daemon_pid(struct model *m)
{
	char *text, *found;
	long pid;

	assert_int_equal(run(m, (const char *const[]){"status", "--json", m->w.session, NULL}), 0);
	text = output(m);
	found = strstr(text, "\"pid\":");
	assert_non_null(found);
	pid = strtol(found + 6, NULL, 10);
	free(text);
	return (pid_t)pid;
}

static void kill_daemon(struct model *m)
{
	struct pollfd ended = {.fd = pidfd_open(daemon_pid(m), 0), .events = POLLIN};

	assert_true(ended.fd >= 0);
	assert_int_equal(pidfd_send_signal(ended.fd, SIGKILL, NULL, 0), 0);
	assert_int_equal(poll(&ended, 1, PATIENCE), 1);
	close(ended.fd);
}

static void reopen(struct model *m, bool crash)
{
	go_out(m);
	if (crash)
		kill_daemon(m);
	succeed(m, (const char *const[]){"umount", m->w.session, NULL});
	mount_session(m);
	go_in(m);
}

static char *dump(struct model *m)
{
	return dump_host_as(m->mountpoint, m->options.xattrs ? DUMP_KEPT : DUMP_PLAIN);
}

static void clean(struct model *m)
{
	run(m, (const char *const[]){"umount", m->w.session, NULL});
}

const struct side side_mount = {
	.name = "mount",
	.prepare = prepare,
	.start = start,
	.clean = clean,
	.apply = apply,
	.open = open_slot,
	.close = close_slot,
	.read = read_slot,
	.write = write_slot,
	.cut = cut_slot,
	.snapshot = take_snapshot,
	.reset = reset,
	.delete = delete_snapshot,
	.reopen = reopen,
	.dump = dump,
};
