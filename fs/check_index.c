/*
 * check_index: reads every table of an index against the others.
 * Invariant: believes no number before it was compared with the table that it points into.
 * Called by check_base and check_session.
 */
#include "check_index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "format.h"

/* What the entries say of one inode. */
struct tally {
	uint32_t names, subdirs;
	bool reached;
};

struct pass {
	const struct index *ix;
	const char *label;
	struct findings *findings;
	struct tally *tallies; /* of inode i + 1 */
	uint64_t n;
};

#define tell(p, ...) findings_add((p)->findings, "index", findings_where("%s", (p)->label), __VA_ARGS__)

static bool is_kind(uint32_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) || S_ISFIFO(mode) ||
	       S_ISSOCK(mode);
}

static bool is_name(const struct index_entry *e)
{
	return !(e->name[0] == '.' && (e->name_len == 1 || (e->name_len == 2 && e->name[1] == '.')));
}

static bool is_own(const struct index_entry *e)
{
	return e->parent == FORMAT_ROOT_INO && e->name_len == strlen(FORMAT_OWN_DIR) &&
	       memcmp(e->name, FORMAT_OWN_DIR, e->name_len) == 0;
}

static int order(const struct index_entry *a, const struct index_entry *b)
{
	int r = memcmp(a->name, b->name, a->name_len < b->name_len ? a->name_len : b->name_len);

	return r ? r : (a->name_len > b->name_len) - (a->name_len < b->name_len);
}

/* One entry of the run of directory ino. */
static void check_entry(struct pass *p, uint64_t ino, uint64_t nr, const struct index_entry *e)
{
	struct inode inode;
	int r;

	if (e->parent != ino)
		tell(p, "entry %" PRIu64 " lies among those of directory %" PRIu64 " and says %" PRIu64, nr, ino,
		     e->parent);
	if (!is_name(e))
		tell(p, "entry %" PRIu64 " in directory %" PRIu64 " has a name that none can be", nr, ino);
	if (is_own(e) && !index_scanned(p->ix))
		tell(p, "entry %" PRIu64 " is called " FORMAT_OWN_DIR ", as nothing in a base may be", nr);
	r = index_inode(p->ix, e->ino, &inode);
	if (r == -ESTALE) {
		tell(p, "%.*s in directory %" PRIu64 " names inode %" PRIu64 ", which is nowhere", (int)e->name_len,
		     e->name, ino, e->ino);
		return;
	}
	p->tallies[e->ino - 1].names++;
	if (r == 0 && inode_is_dir(&inode))
		p->tallies[ino - 1].subdirs++;
}

static void check_run(struct pass *p, uint64_t ino, uint64_t *n_entries)
{
	struct index_entry entry, last = {0};
	uint64_t first, count;

	if (index_dir(p->ix, ino, &first, &count) < 0) {
		tell(p, "directory %" PRIu64 " has entries behind the end of the table", ino);
		return;
	}
	for (uint64_t nr = first; nr < first + count; nr++) {
		if (index_entry(p->ix, nr, &entry) < 0) {
			tell(p, "entry %" PRIu64 " has a name that none can be, or behind the end of the names", nr);
			continue;
		}
		if (last.name && order(&last, &entry) >= 0)
			tell(p, "the names of directory %" PRIu64 " are not in order at entry %" PRIu64, ino, nr);
		check_entry(p, ino, nr, &entry);
		last = entry;
	}
	*n_entries += count;
}

static void check_target(struct pass *p, const struct inode *inode)
{
	const char *target;
	size_t len;

	if (index_target(p->ix, inode->ino, &target, &len) < 0)
		tell(p, "inode %" PRIu64 " has a link target that none can be, or behind the end of the targets",
		     inode->ino);
	else if (len == 0 || memchr(target, '\0', len) || len != inode->size)
		tell(p, "inode %" PRIu64 " has a link target that none can be", inode->ino);
}

static void check_inode(struct pass *p, uint64_t ino, uint64_t *n_entries)
{
	struct xattr_set set;
	struct inode inode;

	if (index_inode(p->ix, ino, &inode) < 0) {
		tell(p,
		     "inode %" PRIu64
		     " has a size or a time that none can have, or is named by an entry behind the end of the table",
		     ino);
		return;
	}
	if (!is_kind(inode.mode))
		tell(p, "inode %" PRIu64 " is of no type (mode 0%o)", ino, inode.mode);
	if (inode_is_dir(&inode))
		check_run(p, ino, n_entries);
	if (S_ISLNK(inode.mode))
		check_target(p, &inode);
	if (index_xattrs(p->ix, ino, &set) < 0)
		tell(p, "inode %" PRIu64 " has extended attributes that cannot be read", ino);
}

/* After all entries were counted. */
static void check_names(struct pass *p, uint64_t ino)
{
	const struct tally *tally = &p->tallies[ino - 1];
	struct index_entry entry;
	struct inode inode;
	bool is_root = ino == FORMAT_ROOT_INO;
	uint32_t links;
	uint64_t nr;
	int r = index_first_entry(p->ix, ino, &nr);

	if (index_inode(p->ix, ino, &inode) < 0)
		return; /* that was said */
	links = inode_is_dir(&inode) ? 2 + tally->subdirs : tally->names;
	if (is_root != (r == -ENOENT) || (r == 0 && (index_entry(p->ix, nr, &entry) < 0 || entry.ino != ino)))
		tell(p, "inode %" PRIu64 " is said to be named by an entry that does not name it", ino);
	if (is_root ? tally->names > 0 : inode_is_dir(&inode) && tally->names > 1)
		tell(p, "directory %" PRIu64 " has %u names", ino, tally->names);
	if (!is_root && tally->names == 0)
		tell(p, "inode %" PRIu64 " has no name", ino);
	else if (inode.nlink != links)
		tell(p, "inode %" PRIu64 " says that it has %u links, and has %u", ino, inode.nlink, links);
}

/* Every directory that a path from the root leads to. A directory with several names is walked once. */
static int reach(struct pass *p)
{
	cleanup_free uint64_t *todo = calloc(p->n + 1, sizeof(*todo));
	uint64_t n = 1;

	if (!todo)
		return -ENOMEM;
	todo[0] = FORMAT_ROOT_INO;
	p->tallies[0].reached = true;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t first, count;

		if (index_dir(p->ix, todo[i], &first, &count) < 0)
			continue;
		for (uint64_t nr = first; nr < first + count; nr++) {
			struct index_entry e;

			if (index_entry(p->ix, nr, &e) < 0 || e.ino - 1 >= p->n || p->tallies[e.ino - 1].reached)
				continue;
			p->tallies[e.ino - 1].reached = true;
			todo[n++] = e.ino;
		}
	}
	for (uint64_t ino = 1; ino <= p->n; ino++) {
		if (!p->tallies[ino - 1].reached && p->tallies[ino - 1].names > 0)
			tell(p, "no path leads to inode %" PRIu64, ino);
	}
	return 0;
}

int check_index(const struct index *ix, const char *label, struct findings *findings)
{
	struct pass p = {.ix = ix, .label = label, .findings = findings, .n = index_n_inodes(ix)};
	uint64_t n_entries = 0;
	struct inode root;
	int r;

	if (index_inode(ix, FORMAT_ROOT_INO, &root) < 0 || !inode_is_dir(&root)) {
		tell(&p, "inode 1, the root, is no directory");
		return 0;
	}
	p.tallies = calloc(p.n, sizeof(*p.tallies));
	if (!p.tallies)
		return -ENOMEM;
	for (uint64_t ino = 1; ino <= p.n; ino++)
		check_inode(&p, ino, &n_entries);
	if (n_entries != index_n_entries(ix))
		tell(&p, "the directories have %" PRIu64 " entries, the table %" PRIu64, n_entries,
		     index_n_entries(ix));
	for (uint64_t ino = 1; ino <= p.n; ino++)
		check_names(&p, ino);
	r = reach(&p);
	free(p.tallies);
	return r;
}
