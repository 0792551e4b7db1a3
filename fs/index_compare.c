/*
 * index_compare: says in which paths two indexes differ.
 * Invariant: walks both trees in the order of their sorted names, so what it names first comes first.
 * Called by store when a base is not the one that a session was made on.
 */
#include "index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "format.h"

struct walk {
	const struct index *before, *now;
	const struct log *log;
	unsigned int left; /* how many may still be written */
	unsigned int found;
};

/* entry: the name that the difference was found under, of which an inode may have others; the root's is empty. */
static void tell(struct walk *w, const struct index *ix, const struct index_entry *entry, const char *what)
{
	cleanup_free char *dir = NULL;
	bool in_root = entry->parent == FORMAT_ROOT_INO;

	if (index_path(ix, entry->parent, &dir) < 0)
		return;
	w->found++;
	w->left--;
	if (entry->name_len == 0)
		log_error(w->log, 0, "  .: %s", what);
	else
		log_error(w->log, 0, "  %s%s%.*s: %s", in_root ? "" : dir, in_root ? "" : "/", (int)entry->name_len,
		          entry->name, what);
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* What differs between two inodes of the same path, or NULL. */
static const char *difference(const struct walk *w, const struct inode *a, const struct inode *b)
{
	struct index_content content_a, content_b;
	struct xattr_set xattrs_a, xattrs_b;
	const char *target_a = NULL, *target_b = NULL;
	size_t len_a = 0, len_b = 0;

	if ((a->mode & S_IFMT) != (b->mode & S_IFMT))
		return "another type";
	if (a->mode != b->mode)
		return "another mode";
	if (a->uid != b->uid || a->gid != b->gid)
		return "another owner";
	if (a->rdev != b->rdev)
		return "another device number";
	if (S_ISLNK(a->mode) && (index_target(w->before, a->ino, &target_a, &len_a) < 0 ||
	                         index_target(w->now, b->ino, &target_b, &len_b) < 0 || len_a != len_b ||
	                         memcmp(target_a, target_b, len_a) != 0))
		return "another link target";
	if (!inode_is_dir(a) && a->size != b->size)
		return "another size";
	if (index_content(w->before, a->ino, &content_a) < 0 || index_content(w->now, b->ino, &content_b) < 0 ||
	    !same_time(a->mtime, b->mtime) || content_a.stamp != content_b.stamp)
		return "modified since";
	if (content_a.checksum != content_b.checksum)
		return "another content";
	if (a->blocks != b->blocks || a->size != b->size)
		return "another number of blocks";
	if (!inode_is_dir(a) && a->nlink != b->nlink)
		return "another number of links";
	if (index_xattrs(w->before, a->ino, &xattrs_a) < 0 || index_xattrs(w->now, b->ino, &xattrs_b) < 0 ||
	    xattrs_a.len != xattrs_b.len || memcmp(xattrs_a.bytes, xattrs_b.bytes, xattrs_a.len) != 0)
		return "other extended attributes";
	if (!same_time(a->ctime, b->ctime))
		return "its inode was changed since";
	return NULL;
}

static void compare_inode(struct walk *w, const struct index_entry *a, const struct index_entry *b)
{
	struct inode before, now;
	const char *what;

	if (index_inode(w->before, a->ino, &before) < 0 || index_inode(w->now, b->ino, &now) < 0)
		return;
	what = difference(w, &before, &now);
	if (what)
		tell(w, w->now, b, what);
}

/* A pair of directories still to be compared. */
struct pair {
	uint64_t before, now;
};

struct pairs {
	struct pair *list;
	size_t n, cap;
};

static int push(struct pairs *p, uint64_t before, uint64_t now)
{
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 256;
		struct pair *list = realloc(p->list, cap * sizeof(*list));

		if (!list)
			return -ENOMEM;
		p->list = list;
		p->cap = cap;
	}
	p->list[p->n++] = (struct pair){before, now};
	return 0;
}

/* A cursor over the entries of one directory; name NULL at the end. */
struct run {
	const struct index *ix;
	uint64_t at, end;
	struct index_entry entry;
};

static void run_next(struct run *run)
{
	run->entry.name = NULL;
	if (run->at < run->end && index_entry(run->ix, run->at, &run->entry) == 0)
		run->at++;
}

static void run_start(struct run *run, const struct index *ix, uint64_t ino)
{
	uint64_t count;

	*run = (struct run){.ix = ix};
	if (index_dir(ix, ino, &run->at, &count) < 0)
		return;
	run->end = run->at + count;
	run_next(run);
}

static int order(const struct run *a, const struct run *b)
{
	size_t least = a->entry.name_len < b->entry.name_len ? a->entry.name_len : b->entry.name_len;
	int r;

	if (!a->entry.name || !b->entry.name)
		return a->entry.name ? -1 : 1;
	r = memcmp(a->entry.name, b->entry.name, least);
	return r ? r : (a->entry.name_len > b->entry.name_len) - (a->entry.name_len < b->entry.name_len);
}

static int compare_dirs(struct walk *w, struct pairs *todo, struct pair dirs)
{
	struct run a, b;

	run_start(&a, w->before, dirs.before);
	run_start(&b, w->now, dirs.now);
	while (w->left > 0 && (a.entry.name || b.entry.name)) {
		int which = order(&a, &b);

		if (which < 0) {
			tell(w, w->before, &a.entry, "it is gone");
			run_next(&a);
			continue;
		}
		if (which > 0) {
			tell(w, w->now, &b.entry, "it is new");
			run_next(&b);
			continue;
		}
		compare_inode(w, &a.entry, &b.entry);
		if (push(todo, a.entry.ino, b.entry.ino) < 0)
			return -ENOMEM;
		run_next(&a);
		run_next(&b);
	}
	return 0;
}

int index_compare(const struct index *before, const struct index *now, unsigned int most, const struct log *log)
{
	struct walk w = {.before = before, .now = now, .log = log, .left = most};
	const struct index_entry root = {.parent = FORMAT_ROOT_INO, .ino = FORMAT_ROOT_INO, .name = ""};
	struct pairs todo = {0};
	int r;

	compare_inode(&w, &root, &root);
	r = push(&todo, FORMAT_ROOT_INO, FORMAT_ROOT_INO);
	for (size_t i = 0; r == 0 && i < todo.n && w.left > 0; i++)
		r = compare_dirs(&w, &todo, todo.list[i]);
	free(todo.list);
	return r < 0 ? r : (int)w.found;
}
