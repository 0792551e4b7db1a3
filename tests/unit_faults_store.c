/*
 * unit_faults_store: snapshots, resets, deletes, opening and importing, when a system call or an allocation fails.
 * Invariant: what a session is, it is before and after: a failure is answered, and the same thing done again works.
 * Called by meson test.
 */
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"
#include "umlfs/import.h"
#include "unit.h"
#include "unit_dump.h"
#include "unit_fault_case.h"

/* What the disk does not take now it gets later: the change itself is made. */
static void clean_up(struct world *w, struct snapshot_change *change)
{
	int r = snapshot_clean_up(&w->store->session, change);

	assert_true(r <= 0);
}

static int run_snapshot(struct world *w, const struct fault_case *c)
{
	struct snapshot_change change;
	int r = snapshot_create(w->store, c->op.a, &w->place.log, &change);

	if (r == 0)
		clean_up(w, &change);
	return r;
}

static int run_reset(struct world *w, const struct fault_case *c)
{
	struct snapshot_change change;
	int r = snapshot_reset(w->store, c->op.a, &w->place.log, &change);

	if (r == 0)
		clean_up(w, &change);
	return r;
}

static int run_delete(struct world *w, const struct fault_case *c)
{
	struct snapshot_change change;
	int r = snapshot_delete(w->store, c->op.a, &w->place.log, &change);

	if (r == 0)
		clean_up(w, &change);
	return r;
}

/* A second snapshot, and changes on it. */
static void prepare_two(struct world *w, const struct fault_case *c)
{
	const struct op ops[] = {
		{OP_WRITE, "clean", NULL, 9, 500, 700},
		{OP_UNLINK, "below", NULL, 0, 0, 0},
		{OP_MKFILE, "below", NULL, 0, 0, 0},
	};

	world_snapshot(w, "two");
	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		expect_status(op_tree(w, &ops[i]), 0, "preparing %s", ops[i].a);
}

/* The session stands on "one", and "two" is another branch. */
static void prepare_branches(struct world *w, const struct fault_case *c)
{
	prepare_two(w, c);
	world_reset(w, "one");
	expect_status(op_tree(w, &(struct op){OP_WRITE, "below", NULL, 1, 0, 200}), 0, "preparing");
}

static const struct fault_case snapshot_cases[] = {
	{"snapshot", NULL, run_snapshot, {OP_KINDS, "new", NULL, 0, 0, 0}},
	{"snapshot of the same state", prepare_two, run_snapshot, {OP_KINDS, "new", NULL, 0, 0, 0}},
	{"reset", NULL, run_reset, {OP_KINDS, NULL, NULL, 0, 0, 0}},
	{"reset to the base", prepare_two, run_reset, {OP_KINDS, SNAPSHOT_BASE, NULL, 0, 0, 0}},
	{"reset to another branch", prepare_branches, run_reset, {OP_KINDS, "two", NULL, 0, 0, 0}},
};

static void a_snapshot_or_reset_that_fails_changes_nothing(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(snapshot_cases); i++)
		fault_try(&snapshot_cases[i]);
}

static const struct fault_case delete_cases[] = {
	{"delete what others stand on", prepare_two, run_delete, {OP_KINDS, "one", NULL, 0, 0, 0}},
	{"delete a branch", prepare_branches, run_delete, {OP_KINDS, "two", NULL, 0, 0, 0}},
};

static void a_delete_that_fails_changes_nothing(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(delete_cases); i++)
		fault_try(&delete_cases[i]);
}

/* How a session is opened. */
struct opening {
	const char *name;
	void (*prepare)(struct world *w, const struct fault_case *c); /* may be NULL */
	void (*closed)(struct world *w); /* what happens to it while it is closed; may be NULL */
	bool alone;                      /* without its base */
	bool is_new;
};

static int try_open(struct world *w, bool alone)
{
	struct store_options options = {.session = w->session, .log = &w->place.log, .max_files = 16};
	int r;

	if (!alone)
		return world_try_open(w);
	r = store_open(&options, &w->store);
	if (r < 0)
		return r;
	r = store_load(w->store);
	if (r < 0) {
		store_close(w->store);
		w->store = NULL;
		return r;
	}
	tree_init(&w->tree, &w->store->session);
	return 0;
}

static void expect_described(struct world *w, const char *want, const char *when)
{
	char *got = dump_session(w, DUMP_INOS);

	dump_expect(got, want, when);
	free(got);
}

/* Opens and closes: what is left is what the next one finds. */
static bool open_step(void *arg, enum fault fault, unsigned int nr)
{
	const struct tree_new what = {.mode = S_IFREG | 0600};
	const struct opening *o = arg;
	struct inode made;
	unsigned int descriptors = fault_descriptors();
	char *want, when[256];
	struct world w;
	bool fired;
	int r;

	if (o->is_new)
		world_make(&w, fault_fill_base);
	else
		fault_make_world(&w);
	if (o->prepare)
		o->prepare(&w, NULL);
	want = dump_session(&w, DUMP_INOS);
	world_crash(&w);
	if (o->closed)
		o->closed(&w);
	place_forget_lines(&w.place);
	fault_arm(fault, nr);
	r = try_open(&w, o->alone);
	fired = fault_disarm();
	snprintf(when, sizeof(when), "%s, %s", o->name, fault_text());
	if (!fired)
		expect_status(r, 0, "%s: %s", when, w.place.lines);
	if (r < 0) {
		fault_expect_errno(fault, r, when);
		if (fault != FAULT_MEMORY && w.place.n_errors == 0)
			fail_msg("%s: %d without a word", when, r);
		/* Without the lock nobody knows whose the directory is. */
		if (o->is_new && place_has(w.place.fd, "session") && !strstr(when, "flock"))
			fail_msg("%s: a session is left", when);
	} else if (!o->alone) {
		expect_described(&w, want, when);
	}
	world_crash(&w);
	world_open(&w);
	expect_described(&w, want, when);
	expect_status(tree_make(&w.tree, 1, "another", &what, &made), 0, "%s: making a file", when);
	world_reopen(&w);
	free(want);
	world_fini(&w);
	if (fault_descriptors() != descriptors)
		fail_msg("%s: %u descriptors became %u", when, descriptors, fault_descriptors());
	return fired;
}

static void prepare_join(struct world *w, const struct fault_case *c)
{
	prepare_two(w, c);
	world_delete(w, "one");
}

/* A file that was open without a name when the session died. */
static void prepare_orphan(struct world *w, const struct fault_case *c)
{
	assert_int_equal(tree_hold(&w->tree, world_ino(w, "clean")), 0);
	expect_status(tree_unlink(&w->tree, 1, "clean"), 0, "preparing");
}

static void leave_layer(struct world *w)
{
	assert_int_equal(mkdirat(w->place.fd, "session/layers/77", 0700), 0);
	assert_int_equal(mkdirat(w->place.fd, "session/layers/77/content", 0700), 0);
	place_put(w->place.fd, "session/layers/77/content/5", "x", 1);
}

static void damage_copy(struct world *w)
{
	place_put(w->place.fd, "session/base.index", "x", 1);
}

static void remove_session(struct world *w)
{
	assert_int_equal(io_remove_tree(w->place.fd, "session"), 0);
}

/* The base becomes an imported one, the session a new one on it. */
static void import_base(struct world *w)
{
	char source[180];
	const char *const sources[] = {source};
	const struct import_options options = {
		.sources = sources, .n_sources = 1, .base = w->base, .log = &w->place.log};
	struct import_result result;

	remove_session(w);
	snprintf(source, sizeof(source), "%s-source", w->base);
	assert_int_equal(renameat(w->place.fd, "base", w->place.fd, "base-source"), 0);
	expect_status(import_run(&options, &result), 0, "importing: %s", w->place.lines);
}

static const struct opening openings[] = {
	{"open", NULL, NULL, false, false},
	{"open with layers to join", prepare_join, NULL, false, false},
	{"open with a file without names", prepare_orphan, NULL, false, false},
	{"open with a layer left over", NULL, leave_layer, false, false},
	{"open with a damaged copy of the index", NULL, damage_copy, false, false},
	{"open alone", NULL, NULL, true, false},
	{"make a session", NULL, remove_session, false, true},
	{"make a session on an imported base", NULL, import_base, false, true},
};

static void an_opening_that_fails_changes_nothing(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(openings); i++)
		fault_each(1, open_step, (void *)(uintptr_t)&openings[i]);
}

/* What is imported, and what the place looks like before and after. */
struct importing {
	struct place place;
	char source[180], base[180];
	bool force;
	char *before, *after;
};

static int run_import(struct importing *im)
{
	const char *const sources[] = {im->source};
	const struct import_options options = {
		.sources = sources, .n_sources = 1, .base = im->base, .force = im->force, .log = &im->place.log};
	struct import_result result;

	place_forget_lines(&im->place);
	return import_run(&options, &result);
}

static void expect_place(struct importing *im, const char *want, const char *when)
{
	char *got = dump_host(im->place.path);

	dump_expect(got, want, when);
	free(got);
}

static bool import_step(void *arg, enum fault fault, unsigned int nr)
{
	struct importing *im = arg;
	unsigned int descriptors = fault_descriptors();
	char when[256];
	bool fired;
	int r;

	fault_arm(fault, nr);
	r = run_import(im);
	fired = fault_disarm();
	snprintf(when, sizeof(when), "import of %s, %s", im->source, fault_text());
	if (r < 0) {
		fault_expect_errno(fault, r, when);
		if (fault != FAULT_MEMORY && im->place.n_errors == 0)
			fail_msg("%s: %d without a word", when, r);
		expect_place(im, im->before, when);
	} else if (im->place.n_warnings == 0) {
		expect_place(im, im->after, when);
	}
	if (!fired || im->place.n_warnings)
		expect_status(r, 0, "%s: %s", when, im->place.lines);
	if (fault_descriptors() != descriptors)
		fail_msg("%s: %u descriptors became %u", when, descriptors, fault_descriptors());
	if (!im->force)
		assert_int_equal(io_remove_tree(im->place.fd, "base"), 0);
	expect_status(run_import(im), 0, "%s, once more", when);
	expect_place(im, im->after, when);
	if (!im->force)
		assert_int_equal(io_remove_tree(im->place.fd, "base"), 0);
	return fired;
}

/* place/tree as place/tree.tar.gz */
static void pack(const char *place)
{
	char archive[180];
	char *argv[] = {(char[]){"tar"},          (char[]){"-czf"}, archive, (char[]){"-C"},
	                (char *)(uintptr_t)place, (char[]){"tree"}, NULL};
	int status = 0;
	pid_t pid;

	snprintf(archive, sizeof(archive), "%s/tree.tar.gz", place);
	assert_int_equal(posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void try_import(const char *source, bool force)
{
	struct importing im = {.force = force};
	int fd;

	place_make(&im.place);
	assert_int_equal(mkdirat(im.place.fd, "tree", 0755), 0);
	fd = openat(im.place.fd, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fault_fill_base(fd);
	close(fd);
	pack(im.place.path);
	snprintf(im.source, sizeof(im.source), "%s/%s", im.place.path, source);
	snprintf(im.base, sizeof(im.base), "%s/base", im.place.path);
	im.before = dump_host(im.place.path);
	expect_status(run_import(&im), 0, "importing %s: %s", source, im.place.lines);
	im.after = dump_host(im.place.path);
	if (force) {
		free(im.before);
		im.before = strdup(im.after);
	} else {
		assert_int_equal(io_remove_tree(im.place.fd, "base"), 0);
	}
	fault_each(1, import_step, &im);
	free(im.before);
	free(im.after);
	place_remove(&im.place);
}

static void an_import_that_fails_leaves_what_was_there(void **state)
{
	try_import("tree", false);
	try_import("tree.tar.gz", false);
	try_import("tree", true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_snapshot_or_reset_that_fails_changes_nothing),
		cmocka_unit_test(a_delete_that_fails_changes_nothing),
		cmocka_unit_test(an_opening_that_fails_changes_nothing),
		cmocka_unit_test(an_import_that_fails_leaves_what_was_there),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
