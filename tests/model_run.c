/*
 * model_run: does steps twice and compares.
 * Invariant: whatever happens to the process that does them, the one that watches knows the steps so far, and
 * leaves nothing behind.
 * Called by unit_model.c and model_shrink.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "io.h"
#include "model.h"

enum { SECONDS_MAX = 300 };

static const unsigned char *bytes_of(const struct step *step)
{
	static unsigned char bytes[MODEL_READ_MAX];
	struct unit_random random = {step->offset * 31 + step->len};

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(unit_random(&random, 255) + 1);
	return bytes;
}

static void expect_same_trees(struct model *m, const char *when)
{
	char *want = dump_host_as(m->host, m->options.xattrs ? DUMP_KEPT : DUMP_PLAIN);
	char *got = m->options.side->dump(m);

	dump_expect(got, want, when);
	free(got);
	free(want);
}

static void close_slot(struct model *m, unsigned int slot)
{
	if (m->host_slots[slot] < 0)
		return;
	close(m->host_slots[slot]);
	m->host_slots[slot] = -1;
	m->options.side->close(m, slot);
}

static void close_slots(struct model *m)
{
	for (unsigned int i = 0; i < MODEL_SLOTS; i++)
		close_slot(m, i);
}

static void open_slot(struct model *m, const struct step *step)
{
	unsigned int slot = (unsigned int)step->number;
	struct stat st;
	int r;

	if (m->host_slots[slot] >= 0 || fstatat(m->hostfd, step->a, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode))
		return;
	r = io_open_beneath(m->hostfd, step->a, O_RDWR | O_NOFOLLOW, 0);
	if (r < 0) /* through a symlink */
		return;
	m->host_slots[slot] = r;
	r = m->options.side->open(m, slot, step->a);
	if (r < 0)
		m->host_slots[slot] = -1;
	expect_status(r, 0, "opening %s", step->a);
}

static void use_slot(struct model *m, const struct step *step)
{
	static unsigned char got[MODEL_READ_MAX], want[MODEL_READ_MAX];
	const struct side *side = m->options.side;
	unsigned int slot = (unsigned int)step->number;
	int fd = m->host_slots[slot];
	ssize_t n;

	if (fd < 0)
		return;
	if (step->kind == STEP_WRITE) {
		n = pwrite(fd, bytes_of(step), step->len, (off_t)step->offset);
		expect_status(side->write(m, slot, bytes_of(step), step->len, step->offset), n, "writing");
	} else if (step->kind == STEP_CUT) {
		n = ftruncate(fd, (off_t)step->offset);
		expect_status(side->cut(m, slot, step->offset), n, "truncating");
	} else {
		n = pread(fd, want, step->len, (off_t)step->offset);
		expect_status(side->read(m, slot, got, step->len, step->offset), n, "reading");
		if (n > 0 && memcmp(got, want, (size_t)n) != 0)
			fail_msg("an open file holds other bytes");
	}
}

static void restore_host(struct model *m, const char *from)
{
	close(m->hostfd);
	assert_int_equal(io_remove_tree(m->w.place.fd, "host"), 0);
	place_copy(from, m->host);
	m->hostfd = open(m->host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void change_layers(struct model *m, const struct step *step)
{
	const struct side *side = m->options.side;
	bool is_base = step->number >= MODEL_SNAPSHOTS;
	bool *exists = is_base ? NULL : &m->snapshots[step->number];
	char name[16], copy[220], entry[32];

	snprintf(name, sizeof(name), "s%u", (unsigned int)step->number);
	snprintf(entry, sizeof(entry), "host-%s", name);
	snprintf(copy, sizeof(copy), "%s/%s", m->w.place.path, entry);
	if (step->kind == STEP_RESET && (is_base || *exists)) {
		close_slots(m);
		side->reset(m, is_base ? SNAPSHOT_BASE : name);
		restore_host(m, is_base ? m->w.base : copy);
	} else if (step->kind == STEP_SNAPSHOT && !is_base && !*exists) {
		side->snapshot(m, name);
		place_copy(m->host, copy);
		*exists = true;
	} else if (step->kind == STEP_DELETE && !is_base && *exists) {
		side->delete (m, name);
		assert_int_equal(io_remove_tree(m->w.place.fd, entry), 0);
		*exists = false;
	}
}

static void do_op(struct model *m, const struct step *step, const char *text)
{
	const struct op op = {step->kind, step->a, step->b, step->number, step->offset, (size_t)step->len};
	int want = op_host(m->hostfd, &op);

	expect_status(m->options.side->apply(m, &op), want, "%s", text);
}

/* True when the step was of those that change more than a name or a file. */
static bool do_step(struct model *m, const struct step *step, const char *text)
{
	if (step->kind < OP_KINDS) {
		do_op(m, step, text);
		return false;
	}
	if (step->kind == STEP_OPEN || step->kind == STEP_CLOSE || step->kind < STEP_SNAPSHOT) {
		if (step->kind == STEP_OPEN)
			open_slot(m, step);
		else if (step->kind == STEP_CLOSE)
			close_slot(m, (unsigned int)step->number);
		else
			use_slot(m, step);
		return false;
	}
	if (step->kind >= STEP_REOPEN) {
		close_slots(m);
		m->options.side->reopen(m, step->kind == STEP_CRASH);
	} else {
		change_layers(m, step);
	}
	return true;
}

static void do_steps(struct model *m, size_t n, const struct script *script)
{
	FILE *record = fopen(m->script, "w");
	char text[STEP_TEXT_MAX];
	struct step step;

	assert_non_null(record);
	setvbuf(record, NULL, _IOLBF, STEP_TEXT_MAX);
	if (script)
		n = script->n;
	for (size_t i = 0; i < n; i++) {
		if (script)
			step = script->steps[i];
		else
			model_make_step(m, &step);
		fprintf(record, "%s\n", step_text(&step, text));
		if (do_step(m, &step, text) || i % MODEL_DUMP_EVERY == 0 || (script && n <= MODEL_SHORT) || i == n - 1)
			expect_same_trees(m, text);
	}
	close_slots(m);
	fclose(record);
}

/* In a process of its own, which ends with 0 when all was the same. */
static void run_child(struct model *m, size_t n, const struct script *script)
{
	int fd = open(m->said, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	setenv("CMOCKA_TEST_ABORT", "1", 1); /* else cmocka 1.1.7 keeps what failed to itself, outside of its tests */
	alarm(SECONDS_MAX);
	m->options.side->start(m);
	do_steps(m, n, script);
	_exit(0);
}

static void fill_base(int basefd)
{
	static const char *const names[] = {"a", "b", "c/a/b/c", "c/a/b", "c/a", "c", "e/a", "e/c", "e", "d", "."};
	static unsigned char big[30000];
	int fd;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (unsigned char)(i * 11 + i / 999);
	place_put(basefd, "a", "a file of the base", 18);
	place_put(basefd, "b", big, sizeof(big));
	assert_int_equal(mkdirat(basefd, "c", 0755), 0);
	assert_int_equal(mkdirat(basefd, "c/a", 0755), 0);
	assert_int_equal(mkdirat(basefd, "c/a/b", 0700), 0);
	place_put(basefd, "c/a/b/c", "deep", 4);
	assert_int_equal(linkat(basefd, "b", basefd, "c/b", 0), 0);
	assert_int_equal(linkat(basefd, "b", basefd, "c/a/e", 0), 0);
	assert_int_equal(symlinkat("c/a", basefd, "d"), 0);
	assert_int_equal(mkdirat(basefd, "e", 0755), 0);
	place_put(basefd, "e/a", "", 0);
	assert_int_equal(mkfifoat(basefd, "e/b", 0640), 0);
	place_put(basefd, "e/c", big, 5000);
	fd = openat(basefd, "e/c", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 90000), 0);
	close(fd);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct timespec time = {(time_t)(1000 + i), (long)i * 1001};

		assert_int_equal(utimensat(basefd, names[i], (struct timespec[]){time, time}, AT_SYMLINK_NOFOLLOW), 0);
	}
}

static void set_base_xattrs(const char *base)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/b", base);
	assert_int_equal(setxattr(path, "user.a", "of the base", 11, 0), 0);
	snprintf(path, sizeof(path), "%s/c", base);
	assert_int_equal(setxattr(path, "user.b", "of a directory", 14, 0), 0);
}

static void prepare(struct model *m, const struct model_options *options, uint64_t seed)
{
	*m = (struct model){.options = *options, .random = {seed}, .hostfd = -1, .mountfd = -1};
	world_make_base(&m->w, fill_base);
	if (options->xattrs)
		set_base_xattrs(m->w.base);
	snprintf(m->host, sizeof(m->host), "%s/host", m->w.place.path);
	snprintf(m->script, sizeof(m->script), "%s/script", m->w.place.path);
	snprintf(m->said, sizeof(m->said), "%s/said", m->w.place.path);
	place_copy(m->w.base, m->host);
	m->hostfd = open(m->host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned int i = 0; i < MODEL_SLOTS; i++)
		m->host_slots[i] = m->mount_slots[i] = -1;
	options->side->prepare(m);
}

bool model_run(const struct model_options *options, uint64_t seed, size_t n, const struct script *script,
               struct script *done, char **said)
{
	struct model *m = calloc(1, sizeof(*m));
	int status = 0;
	size_t len;
	pid_t pid;

	assert_non_null(m);
	prepare(m, options, seed);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		run_child(m, n, script);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status != 0) {
		if (place_has(m->w.place.fd, "script"))
			*done = script_read(m->script);
		*said = (char *)place_get(m->w.place.fd, "said", &len);
		*said = realloc(*said, len + 80);
		assert_non_null(*said);
		sprintf(*said + len, WIFSIGNALED(status) ? "(ended by signal %d)\n" : "(exit status %d)\n",
		        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	}
	options->side->clean(m);
	close(m->hostfd);
	world_fini(&m->w);
	free(m);
	return status == 0;
}
