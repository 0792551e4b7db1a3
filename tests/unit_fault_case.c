/*
 * unit_fault_case: makes worlds, arms faults in them, and compares states.
 * Invariant: what is compared with a state before the fault is compared in all, times included.
 * Called by the tests of what fails below.
 */
#include "unit_fault_case.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "io.h"
#include "unit.h"
#include "unit_dump.h"

enum { CALLS_MAX = 4000, BIG = 30000 };

void fault_fill_base(int basefd)
{
	static unsigned char big[BIG];
	int fd;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (unsigned char)(i * 7 + i / 500);
	place_put(basefd, "file", "base", 4);
	place_put(basefd, "big", big, sizeof(big));
	place_put(basefd, "other", big, 9000);
	place_put(basefd, "parts", big, sizeof(big));
	assert_int_equal(mkdirat(basefd, "dir", 0755), 0);
	assert_int_equal(mkdirat(basefd, "dir/sub", 0755), 0);
	assert_int_equal(mkdirat(basefd, "empty", 0755), 0);
	place_put(basefd, "dir/child", "child", 5);
	assert_int_equal(linkat(basefd, "big", basefd, "dir/hard", 0), 0);
	assert_int_equal(symlinkat("dir/child", basefd, "link"), 0);
	fd = openat(basefd, "other", O_RDONLY | O_CLOEXEC);
	fsetxattr(fd, "user.x", "y", 1, 0); /* where the host has such */
	close(fd);
}

static void do_ops(struct world *w, const struct op *ops, size_t n)
{
	for (size_t i = 0; i < n; i++)
		expect_status(op_tree(w, &ops[i]), 0, "preparing: %s", ops[i].a);
}

void fault_make_world(struct world *w)
{
	static const struct op below[] = {
		{OP_MKFILE, "below", NULL, 0, 0, 0},
		{OP_WRITE, "below", NULL, 1, 0, 6000},
		{OP_MKDIR, "made", NULL, 0, 0, 0},
		{OP_MKFILE, "made/one", NULL, 0, 0, 0},
		{OP_RENAME, "dir/child", "made/child", 0, 0, 0},
		{OP_WRITE, "other", NULL, 2, 100, 300},
		{OP_WRITE, "parts", NULL, 5, 100, 300},
		{OP_WRITE, "parts", NULL, 6, 21000, 300},
	};
	static const struct op top[] = {
		{OP_MKFILE, "clean", NULL, 0, 0, 0},     {OP_WRITE, "clean", NULL, 3, 0, 5000},
		{OP_MKFILE, "dirty", NULL, 0, 0, 0},     {OP_MKFILE, "new", NULL, 0, 0, 0},
		{OP_MKDIR, "fresh", NULL, 0, 0, 0},      {OP_UNLINK, "made/one", NULL, 0, 0, 0},
		{OP_WRITE, "parts", NULL, 7, 5000, 300},
	};
	static const struct op dirty = {OP_WRITE, "dirty", NULL, 4, 0, 5000};

	world_make(w, fault_fill_base);
	do_ops(w, below, ARRAY_LEN(below));
	expect_status(tree_setxattr(&w->tree, world_ino(w, "below"), "user.a", "value", 5, 0), 0, "preparing");
	world_snapshot(w, "one");
	do_ops(w, top, ARRAY_LEN(top));
	expect_status(session_settle(&w->store->session), 0, "settling");
	do_ops(w, &dirty, 1);
}

static void expect_state(struct world *w, unsigned int what, const char *want, const char *when)
{
	char *got = dump_session(w, what);

	dump_expect(got, want, when);
	free(got);
}

void fault_each(unsigned int stride, fault_step *step, void *arg)
{
	unsigned int least =
		(unsigned int)unit_number("UMLFS_FAULT_STRIDE", 1); /* more where all would take too long */

	if (stride < least)
		stride = least;
	for (enum fault fault = 0; fault < FAULTS; fault++) {
		unsigned int nr = 1;

		while (step(arg, fault, nr)) {
			/* Where EIO comes, ENOSPC takes the same way. */
			nr += fault == FAULT_ENOSPC ? 3 * stride : stride;
			if (nr > CALLS_MAX)
				fail_msg("there is no end of calls: %s", fault_text());
		}
	}
}

struct tries {
	const struct fault_case *c;
	char *after;    /* without times and numbers */
	unsigned int n; /* faults that came */
	bool is_told;
};

/* Every layer on disk is the manifest's, every content file an inode's. */
static void expect_no_leftovers(struct world *w, const char *when)
{
	const struct session *s = &w->store->session;
	DIR *dir = fdopendir(openat(s->layersfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;
	char path[32];

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.' && !manifest_layer(&s->manifest, (uint32_t)atoi(entry->d_name)))
			fail_msg("%s: layer %s is left over", when, entry->d_name);
	}
	closedir(dir);
	snprintf(path, sizeof(path), "%u/content", s->manifest.top);
	dir = fdopendir(openat(s->layersfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		struct inode inode;

		if (entry->d_name[0] != '.' && (stack_inode(&s->stack, strtoull(entry->d_name, NULL, 10), &inode) < 0 ||
		                                inode.content_layer != s->manifest.top))
			fail_msg("%s: content of inode %s is left over", when, entry->d_name);
	}
	closedir(dir);
}

/* Behind the last frame is nothing: a shorter one than was tried before would not cover it. */
static void expect_journal_ends(struct world *w, const char *when)
{
	const struct layer *top = stack_top(&w->store->session.stack);
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "%u/journal", top->id);
	assert_int_equal(fstatat(w->store->session.layersfd, path, &st, 0), 0);
	expect_status((long)st.st_size, (long)journal_size(top->journal), "%s: the journal's length", when);
}

static void make(struct world *w, const struct fault_case *c)
{
	fault_make_world(w);
	if (c->prepare)
		c->prepare(w, c);
}

static void without_fault(struct tries *t)
{
	struct world w;

	make(&w, t->c);
	expect_status(t->c->run(&w, t->c), 0, "%s without a fault: %s", t->c->name, w.place.lines);
	t->after = dump_session(&w, DUMP_PLAIN);
	world_fini(&w);
}

static void expect_reload(struct world *w, bool crash, const char *when)
{
	unsigned int what = crash ? DUMP_INOS : DUMP_ALL; /* of a run of writes the host knows other times */
	char *before = dump_session(w, what);

	if (crash)
		world_crash(w);
	else
		world_close(w);
	world_open(w);
	expect_state(w, what, before, when);
	free(before);
}

void fault_expect_errno(enum fault fault, int r, const char *when)
{
	bool good = r == -EIO;

	if (fault == FAULT_ENOSPC || fault == FAULT_FULL)
		good = r == -ENOSPC || r == -EIO;
	if (fault == FAULT_MEMORY)
		good = r == -ENOMEM;
	if (fault == FAULT_SHORT || fault == FAULT_TORN)
		good = r == -ENOSPC || r == -EIO;
	if (!good)
		fail_msg("%s: answered %d (%s)", when, r, strerror(-r));
}

/* After a fault: what the answer says is what is. */
static void expect_answer(struct tries *t, struct world *w, enum fault fault, int r, const char *before,
                          const char *when)
{
	if (r == 0) {
		expect_state(w, DUMP_PLAIN, t->after, when);
		return;
	}
	fault_expect_errno(fault, r, when);
	expect_state(w, DUMP_ALL, before, when);
	expect_no_leftovers(w, when);
	if (fault != FAULT_TORN)
		expect_journal_ends(w, when);
}

static bool try_once(struct tries *t, enum fault fault, unsigned int nr, bool reload_first)
{
	unsigned int descriptors = fault_descriptors();
	char *before, when[256];
	struct world w;
	bool fired;
	int r;

	make(&w, t->c);
	before = dump_session(&w, DUMP_ALL);
	fault_arm(fault, nr);
	r = t->c->run(&w, t->c);
	fired = fault_disarm();
	snprintf(when, sizeof(when), "%s, %s", t->c->name, fault_text());
	if (!fired)
		expect_status(r, 0, "%s", when);
	expect_answer(t, &w, fault, r, before, when);
	if (reload_first) {
		expect_reload(&w, fault != FAULT_BYTES, when); /* what was told and not done is known to memory alone */
		expect_no_leftovers(&w, when);
	}
	if (r < 0)
		expect_status(t->c->run(&w, t->c), 0, "%s, once more", when);
	expect_state(&w, DUMP_PLAIN, t->after, when);
	expect_reload(&w, !reload_first && nr % 2, when);
	world_fini(&w);
	free(before);
	if (fault_descriptors() != descriptors)
		fail_msg("%s: %u descriptors became %u", when, descriptors, fault_descriptors());
	return fired;
}

static bool try_step(void *arg, enum fault fault, unsigned int nr)
{
	struct tries *t = arg;

	if (fault == FAULT_BYTES && t->is_told)
		return false;
	if (!try_once(t, fault, nr, false))
		return false;
	t->n++;
	return try_once(t, fault, nr, true);
}

static void try_case(const struct fault_case *c, unsigned int stride, bool is_told)
{
	struct tries t = {.c = c, .is_told = is_told};

	without_fault(&t);
	fault_each(stride, try_step, &t);
	print_message("%s: %u faults\n", c->name, t.n);
	free(t.after);
}

void fault_try_some(const struct fault_case *c, unsigned int stride)
{
	try_case(c, stride, false);
}

void fault_try_told(const struct fault_case *c)
{
	try_case(c, 1, true);
}

void fault_try(const struct fault_case *c)
{
	try_case(c, 1, false);
}
