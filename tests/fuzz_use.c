/*
 * fuzz_use: looks at everything in a session, and does everything to it, whatever state it is in.
 * Invariant: every answer is a success or an errno, and everything ends.
 * Called by the fuzz targets.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <unistd.h>

#include "checksum.h"
#include "fuzz_kernel.h"
#include "fuzz_world.h"
#include "io.h"
#include "request.h"
#include "umlfs/base_commit.h"
#include "umlfs/check.h"
#include "umlfs/diff.h"
#include "umlfs/export.h"
#include "unit.h"

enum {
	INODES_MAX = 256, /* looked at in one walk */
	USED_MAX = 24,    /* inodes that something is done to */
	ERRNO_MAX = 4095,
	PIECE = 4096,
};

struct walk {
	struct world *w;
	uint64_t inos[INODES_MAX];
	size_t n;
	uint64_t parent; /* being listed */
	uint64_t sum;
};

static void expect_answer(int64_t r, const char *what)
{
	if (r < -ERRNO_MAX)
		fail_msg("%s: %" PRId64 " is no answer", what, r);
}

static void add(struct walk *k, const void *bytes, size_t len)
{
	k->sum = checksum64(bytes, len, k->sum);
}

static void add_number(struct walk *k, int64_t number)
{
	add(k, &number, sizeof(number));
}

static int visit(void *arg, const struct stack_entry *entry)
{
	struct walk *k = arg;
	struct inode inode;
	char name[PIECE];
	bool known = false;
	int r;

	assert_true(entry->name_len > 0 && entry->name_len < 256);
	snprintf(name, sizeof(name), "%.*s", (int)entry->name_len, entry->name);
	r = tree_lookup(&k->w->tree, k->parent, name, &inode);
	expect_answer(r, "lookup");
	add(k, name, strlen(name));
	add_number(k, r < 0 ? r : (int64_t)inode.ino);
	for (size_t i = 0; i < k->n && !known; i++)
		known = k->inos[i] == entry->ino;
	if (!known && k->n < INODES_MAX)
		k->inos[k->n++] = entry->ino;
	return 0;
}

static void look_at_names(struct walk *k, uint64_t ino)
{
	char names[PIECE];
	ssize_t n = tree_listxattr(&k->w->tree, ino, names, sizeof(names));

	expect_answer(n, "listxattr");
	assert_true(n <= (ssize_t)sizeof(names));
	for (const char *name = names; n > 0 && name < names + n; name += strlen(name) + 1) {
		char value[PIECE];
		ssize_t len = tree_getxattr(&k->w->tree, ino, name, value, sizeof(value));

		expect_answer(len, "getxattr");
		add_number(k, len);
		if (len > 0)
			add(k, value, (size_t)len);
	}
}

static void look_at_content(struct walk *k, const struct inode *inode)
{
	char bytes[PIECE];
	uint64_t last = inode->size > sizeof(bytes) ? inode->size - sizeof(bytes) : 0;
	ssize_t n = tree_read(&k->w->tree, inode->ino, bytes, sizeof(bytes), 0);

	expect_answer(n, "read");
	if (n > 0)
		add(k, bytes, (size_t)n);
	n = tree_read(&k->w->tree, inode->ino, bytes, sizeof(bytes), last);
	expect_answer(n, "read");
	if (n > 0)
		add(k, bytes, (size_t)n);
	expect_answer(tree_lseek(&k->w->tree, inode->ino, 0, SEEK_DATA), "lseek");
	expect_answer(tree_lseek(&k->w->tree, inode->ino, inode->size / 2, SEEK_HOLE), "lseek");
}

static void look_at(struct walk *k, uint64_t ino)
{
	const char *target;
	struct inode i;
	size_t len;
	int r = tree_getattr(&k->w->tree, ino, &i);

	expect_answer(r, "getattr");
	add_number(k, r);
	if (r < 0)
		return;
	add_number(k, (int64_t)i.ino);
	add_number(k, (int64_t)i.size);
	add_number(k, (int64_t)i.rdev);
	add_number(k, (int64_t)((uint64_t)i.mode << 32 | i.nlink));
	add_number(k, (int64_t)((uint64_t)i.uid << 32 | i.gid));
	look_at_names(k, ino);
	r = tree_readlink(&k->w->tree, ino, &target, &len);
	expect_answer(r, "readlink");
	if (r == 0)
		add(k, target, len);
	look_at_content(k, &i);
	k->parent = ino;
	r = tree_readdir(&k->w->tree, ino, 0, visit, k);
	expect_answer(r, "readdir");
	add_number(k, r);
}

static void walk(struct walk *k, struct world *w)
{
	*k = (struct walk){.w = w, .inos = {1}, .n = 1};
	for (size_t i = 0; i < k->n; i++)
		look_at(k, k->inos[i]);
}

uint64_t fuzz_walk(struct world *w)
{
	struct walk k;

	walk(&k, w);
	return k.sum;
}

static void use_inode(struct world *w, uint64_t ino, uint64_t other, size_t nr)
{
	static const struct tree_new file = {.mode = S_IFREG | 0644}, dir = {.mode = S_IFDIR | 0755},
				     link = {.mode = S_IFLNK | 0777, .target = "target"};
	static const unsigned int fields[] = {INODE_MODE, INODE_SIZE, INODE_MTIME | INODE_UID, INODE_SIZE | INODE_MODE};
	struct tree_change change = {.fields = fields[nr % ARRAY_LEN(fields)],
	                             .attr = {.mode = 0640, .size = nr * 100}};
	struct tree *t = &w->tree;
	struct inode made;
	char name[32];

	snprintf(name, sizeof(name), "used%zu", nr);
	expect_answer(tree_write(t, ino, name, strlen(name), nr * 1000), "write");
	expect_answer(tree_copy_range(t, ino, 0, other, 10, 4000), "copy_file_range");
	expect_answer(tree_setattr(t, ino, &change, &made), "setattr");
	expect_answer(tree_setxattr(t, ino, "user.used", name, strlen(name), 0), "setxattr");
	expect_answer(tree_removexattr(t, ino, "user.x"), "removexattr");
	expect_answer(tree_link(t, ino, other, name, &made), "link");
	expect_answer(tree_make(t, ino, "dir", &dir, &made), "mkdir");
	expect_answer(tree_make(t, ino, "file", &file, &made), "mknod");
	expect_answer(tree_make(t, ino, "link", &link, &made), "symlink");
	expect_answer(tree_rename(t, ino, "dir", other, "moved", 0), "rename");
	expect_answer(tree_rename(t, 1, "dir", ino, "moved", nr % 2 ? RENAME_EXCHANGE : RENAME_NOREPLACE), "rename");
	expect_answer(tree_rmdir(t, ino, nr % 2 ? "dir" : "moved"), "rmdir");
	expect_answer(tree_unlink(t, ino, nr % 3 ? "file" : "hard"), "unlink");
	expect_answer(tree_fsync(t, ino), "fsync");
}

static void ask(struct world *w, enum request_kind kind, const char *name)
{
	const struct request request = {.kind = kind, .name = name};
	struct snapshot_change change;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int r = request_run(w->store, &request, &w->place.log, out, &change);

	expect_answer(r, "request");
	if (r == 0)
		expect_answer(snapshot_clean_up(&w->store->session, &change), "cleaning up");
	fclose(out);
	free(text);
}

static int relieve(void *arg, int64_t until)
{
	return 0;
}

/* What a kernel asks for as soon as it is shown something. */
static void serve(struct world *w, const struct walk *k)
{
	static const struct fuse_read_in listing = {.size = PIECE};
	static const struct fuse_ops_options options = {.xattr = true, .relieve = relieve};
	static struct kernel kernel;

	kernel_start(&kernel, w, &options);
	kernel_init(&kernel);
	for (size_t i = 0; i < k->n; i++) {
		kernel_ask(&kernel, FUSE_READLINK, k->inos[i], 0, NULL, 0);
		kernel_ask(&kernel, FUSE_READDIR, k->inos[i], 0, &listing, sizeof(listing));
		kernel_ask(&kernel, FUSE_READDIRPLUS, k->inos[i], 0, &listing, sizeof(listing));
	}
	kernel_stop(&kernel);
}

/* Everything that can be done. What names are there before is in k. */
static void use(struct world *w, const struct walk *k)
{
	size_t n = k->n < USED_MAX ? k->n : USED_MAX;

	ask(w, REQUEST_LIST, NULL);
	ask(w, REQUEST_STATUS, NULL);
	for (size_t i = 0; i < n; i++) {
		uint64_t other = k->inos[(i * 7 + 3) % k->n];
		int held = tree_hold(&w->tree, k->inos[i]);

		use_inode(w, k->inos[i], other, i);
		if (held == 0)
			tree_release(&w->tree, k->inos[i], 1);
		if (i == n / 3)
			ask(w, REQUEST_SNAPSHOT, "taken");
		if (i == n / 2)
			ask(w, REQUEST_RESET, n % 2 ? "taken" : "s1");
		if (i == n / 2 + 2)
			ask(w, REQUEST_DELETE, "s2");
	}
	ask(w, REQUEST_LIST, NULL);
}

/* What did not open must have said so, in one line that names it. */
static bool opens(struct world *w)
{
	int r = world_try_open(w);

	if (r == 0)
		return true;
	expect_answer(r, "opening");
	if (w->place.n_errors == 0)
		fail_msg("it does not open (%s) and nothing says why", strerror(-r));
	return false;
}

static void ignore(void *arg, const struct finding *finding)
{
}

static int pass_over(void *arg, const struct diff_change *change)
{
	return 0;
}

/* What commands read that look at a whole state. The session is closed. */
static void read_whole(struct world *w)
{
	char base[200];
	const struct diff_options diff = {
		.session = w->session, .from = "@base", .log = &w->place.log, .change = pass_over};
	const struct base_commit_options commit = {.source = w->session, .base = base, .log = &w->place.log};
	struct export_options export = {.source = w->session, .file = "/dev/null", .log = &w->place.log};
	struct export_result exported;
	struct import_result committed;

	snprintf(base, sizeof(base), "%s/committed", w->place.path);
	expect_answer(diff_run(&diff), "diff");
	expect_answer(export_run(&export, &exported), "export");
	export.layer = true;
	expect_answer(export_run(&export, &exported), "export of a layer");
	expect_answer(base_commit_run(&commit, &committed), "commit");
	io_remove_tree(w->place.fd, "committed");
}

/* The host went down and has booted: what is not there is mended, or what is wrong said. Then `umlfs check --repair`. */
static void recover(struct world *w)
{
	struct check_result result;
	struct check_options options = {.path = w->session, .repair = true, .log = &w->place.log, .found = ignore};
	struct walk k;

	place_forget_lines(&w->place);
	unlinkat(w->place.fd, "session/running", 0);
	if (symlinkat("the boot before", w->place.fd, "session/running") < 0)
		return; /* there was never a session on such a base */
	if (opens(w))
		walk(&k, w);
	world_crash(w);
	expect_answer(check_run(&options, &result), "repairing");
}

static void look_and_use(struct world *w)
{
	struct walk before, after;
	bool sound;

	if (!opens(w)) {
		fuzz_check(w, false);
		return;
	}
	walk(&before, w);
	world_crash(w);
	sound = fuzz_check(w, false) == 0;
	read_whole(w);
	world_open(w);
	walk(&after, w);
	serve(w, &after);
	if (sound && before.sum != after.sum)
		fail_msg("opened again, it is not what it was");
	use(w, &after);
	if (sound) {
		fuzz_expect_sound(w, false);
		return;
	}
	walk(&before, w);
	expect_answer(session_sync(&w->store->session), "syncing");
	world_crash(w);
	if (opens(w))
		walk(&after, w);
}

void fuzz_session(struct world *w)
{
	look_and_use(w);
	world_crash(w);
	recover(w);
}
