/*
 * layer: owns one session layer: its maps in memory, its journal and its content folder.
 * Invariant: the maps, or the table in their place, hold exactly what replaying the journal gives (but for inodes that nothing can reach any more).
 * Called by stack and session.
 */
#include "layer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "cleanup.h"
#include "io.h"
#include "layer_table.h"

int layer_create(int layersfd, uint32_t id)
{
	cleanup_fd int dir = -1;
	char name[16];
	int r;

	snprintf(name, sizeof(name), "%u", id);
	r = io_remove_tree(layersfd, name);
	if (r < 0)
		return r;
	dir = io_make_dir(layersfd, name, 0700);
	if (dir < 0)
		return dir;
	r = mkdirat(dir, "content", 0700) < 0 ? -errno : journal_create(dir, id);
	if (r < 0)
		io_remove_tree(layersfd, name);
	return r;
}

static int open_dir(int layersfd, uint32_t id)
{
	char name[16];
	int fd;

	snprintf(name, sizeof(name), "%u", id);
	fd = openat(layersfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

int layer_append_journal(int layersfd, uint32_t to, uint32_t from, uint64_t len)
{
	cleanup_fd int to_dir = open_dir(layersfd, to);
	cleanup_fd int from_dir = open_dir(layersfd, from);

	if (to_dir < 0 || from_dir < 0)
		return to_dir < 0 ? to_dir : from_dir;
	return journal_join(to_dir, from_dir, len);
}

int layer_open(int layersfd, uint32_t id, bool writable, uint64_t first_ino, const char *label, const struct log *log,
               struct layer **out)
{
	cleanup_fd int dirfd = open_dir(layersfd, id);
	struct layer *l;
	char path[PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "%s/layers/%u/journal", label, id);
	if (dirfd < 0)
		return log_errno(log, dirfd, "%s", path);
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->id = id;
	l->first_ino = first_ino;
	l->sealed = !writable;
	l->layersfd = layersfd;
	r = journal_open(dirfd, id, writable, path, log, &l->journal);
	if (r < 0) {
		layer_free(l);
		return r;
	}
	*out = l;
	return 0;
}

void layer_seal(struct layer *l)
{
	l->sealed = true;
	journal_free(l->journal);
	l->journal = NULL;
}

void layer_part_free(struct layer_part *part)
{
	if (part) {
		ranges_fini(&part->here);
		ranges_fini(&part->fresh);
	}
	free(part);
}

/* What an inode holds. */
static void empty_inode(struct map_node *node, void *arg)
{
	struct layer_inode *inode = (struct layer_inode *)node;

	layer_part_free(inode->part);
	free(inode->xattrs);
	free(inode->target);
}

static void free_dir(struct map_node *node, void *arg)
{
	layer_dir_fini((struct layer_dir *)node);
	free(node);
}

void layer_free(struct layer *l)
{
	if (!l)
		return;
	if (l->apart)
		map_each(&l->inodes, empty_inode, NULL);
	map_each(&l->dirs, free_dir, NULL);
	layer_table_free(l->table);
	map_fini(&l->inodes);
	map_fini(&l->dirs);
	pool_fini(&l->pool);
	journal_free(l->journal);
	free(l);
}

void layer_free_entry(struct layer *l, struct layer_entry *entry)
{
	pool_put(&l->pool, entry, sizeof(*entry) + entry->len);
}

struct layer_inode *layer_own_inode(const struct layer *l, uint64_t ino)
{
	struct map_node *node = map_first(&l->inodes, map_hash_u64(ino));

	if (l->table)
		return layer_table_inode(l->table, ino);
	while (node && ((struct layer_inode *)node)->attr.ino != ino)
		node = map_next(node);
	return (struct layer_inode *)node;
}

struct layer_dir *layer_own_dir(const struct layer *l, uint64_t ino)
{
	struct map_node *node = map_first(&l->dirs, map_hash_u64(ino));

	if (l->table)
		return layer_table_dir(l->table, ino);
	while (node && ((struct layer_dir *)node)->ino != ino)
		node = map_next(node);
	return (struct layer_dir *)node;
}

const struct layer_inode *layer_inode(const struct layer *l, uint64_t ino)
{
	return layer_own_inode(l, ino);
}

const struct layer_dir *layer_dir(const struct layer *l, uint64_t ino)
{
	return layer_own_dir(l, ino);
}

enum find layer_find(const struct layer *l, uint64_t parent, const char *name, size_t len, uint64_t *ino_out)
{
	const struct layer_dir *dir = layer_own_dir(l, parent);
	const struct layer_entry *entry = NULL;

	if (dir && dir->live > 0)
		entry = layer_dir_find(dir, layer_dir_hash(name, len), name, len);
	if (!entry)
		return FIND_NONE;
	if (entry->ino == 0)
		return FIND_GONE;
	*ino_out = entry->ino;
	return FIND_HIT;
}

bool layer_part_synced(const struct layer *l, uint64_t ino, struct range *out)
{
	const struct layer_inode *inode = layer_own_inode(l, ino);

	if (!inode || !inode->part || inode->part->fresh.n == 0)
		return false;
	*out = inode->part->fresh.list[0];
	return true;
}

void layer_each_inode(const struct layer *l, void (*visit)(struct map_node *node, void *arg), void *arg)
{
	struct layer_inode *inode;

	for (uint64_t row = 0; l->table && (inode = layer_table_inode_at(l->table, row)); row++)
		visit(&inode->node, arg);
	map_each(&l->inodes, visit, arg);
}

void layer_each_dir(const struct layer *l, void (*visit)(struct map_node *node, void *arg), void *arg)
{
	struct layer_dir *dir;

	for (uint64_t row = 0; l->table && (dir = layer_table_dir_at(l->table, row)); row++)
		visit(&dir->node, arg);
	map_each(&l->dirs, visit, arg);
}

/* What layer_each_entry() was called with. */
struct each_entry {
	void (*visit)(uint64_t parent, const struct layer_entry *entry, void *arg);
	void *arg;
};

static void each_of_dir(struct map_node *node, void *arg)
{
	const struct layer_dir *dir = (const struct layer_dir *)node;
	const struct each_entry *each = arg;

	for (size_t i = 0; i < dir->n; i++) {
		if (dir->slots[i].entry)
			each->visit(dir->ino, dir->slots[i].entry, each->arg);
	}
}

void layer_each_entry(const struct layer *l, void (*visit)(uint64_t parent, const struct layer_entry *entry, void *arg),
                      void *arg)
{
	struct each_entry each = {.visit = visit, .arg = arg};

	layer_each_dir(l, each_of_dir, &each);
}

int layer_load_table(struct layer *l, const struct layer_table_key *key)
{
	cleanup_fd int dirfd = open_dir(l->layersfd, l->id);
	int r = dirfd < 0 ? dirfd : layer_table_open(l, dirfd, key);

	if (r == 0)
		layer_seal(l);
	return r;
}

int layer_save_table(const struct layer *l, const struct layer_table_key *key)
{
	cleanup_fd int dirfd = l->table ? -1 : open_dir(l->layersfd, l->id);

	if (l->table)
		return 0;
	return dirfd < 0 ? dirfd : layer_table_write(l, dirfd, key);
}

uint64_t layer_n_inodes(const struct layer *l)
{
	return l->table ? layer_table_n_inodes(l->table) : l->inodes.n;
}

uint64_t layer_changes(const struct layer *l)
{
	return layer_n_inodes(l) + l->n_tombstones;
}

/* Bytes of the file that are in this layer. */
static uint64_t held(const struct layer_inode *inode)
{
	return inode->attr.size - layer_away(inode);
}

void layer_count(struct layer *l, const struct layer_inode *inode, int sign)
{
	if (layer_has_content(l, &inode->attr)) {
		l->bytes += sign > 0 ? held(inode) : -held(inode);
		l->blocks += sign > 0 ? inode->attr.blocks : -inode->attr.blocks;
	}
	if (inode->attr.ino >= l->first_ino && inode->attr.nlink > 0)
		l->made += sign;
}

static void discount_dead(struct map_node *node, void *arg)
{
	const struct layer_inode *inode = (const struct layer_inode *)node;

	if (inode->attr.nlink == 0)
		layer_count(arg, inode, -1);
}

void layer_discount_dead(struct layer *l)
{
	if (l->n_unsettled > 0)
		layer_each_inode(l, discount_dead, l);
}

bool layer_forget(struct layer *l, uint64_t ino)
{
	struct layer_inode *inode = layer_own_inode(l, ino);
	struct layer_dir *dir = layer_own_dir(l, ino);
	bool leaves;

	for (size_t i = 0; dir && i < dir->n; i++) {
		struct layer_entry *entry = dir->slots[i].entry;

		if (!entry)
			continue;
		l->n_tombstones -= entry->ino == 0;
		l->owed -= layer_owed_for(entry->ino, entry->len);
		layer_free_entry(l, entry);
	}
	if (dir) {
		if (l->recent_dir == dir)
			l->recent_dir = NULL;
		map_remove(&l->dirs, &dir->node);
		free_dir(&dir->node, NULL);
	}
	if (!inode)
		return false;
	layer_count(l, inode, -1);
	l->n_unsettled -= layer_unsettled(inode);
	l->recent[ino % LAYER_RECENT] = NULL;
	leaves = !l->sealed && layer_has_content(l, &inode->attr);
	map_remove(&l->inodes, &inode->node);
	empty_inode(&inode->node, NULL);
	pool_put(&l->pool, inode, sizeof(*inode));
	return leaves;
}

void layer_wrote(struct layer *l, uint64_t ino, uint64_t size, struct timespec mtime, struct timespec ctime)
{
	struct layer_inode *inode = layer_own_inode(l, ino);

	if (!inode)
		return;
	l->bytes += size - inode->attr.size;
	inode->attr.size = size;
	inode->attr.mtime = mtime;
	inode->attr.ctime = ctime;
}

void layer_takes(struct layer *l, uint64_t ino, uint64_t blocks)
{
	struct layer_inode *inode = layer_own_inode(l, ino);

	if (!inode)
		return;
	l->blocks += blocks - inode->attr.blocks;
	inode->attr.blocks = blocks;
}

void layer_promise(struct layer *l, uint64_t ino)
{
	struct layer_inode *inode = layer_own_inode(l, ino);

	if (inode)
		inode->attr.promised = true;
}
