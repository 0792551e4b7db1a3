/*
 * layer: owns one session layer: its maps in memory, its journal and its content folder.
 * Invariant: the maps hold exactly what replaying the journal gives (but for inodes that nothing can reach any more).
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
#include "content.h"
#include "io.h"

enum { COOKIE_FIRST = 33, COOKIE_EFFECTS = 4 }; /* bits: above all cookies of a base, room for a record's effects */

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

static void free_inode(struct map_node *node, void *arg)
{
	struct layer_inode *inode = (struct layer_inode *)node;

	free(inode->xattrs);
	free(inode->target);
	free(inode);
}

static void free_entry(struct map_node *node, void *arg)
{
	free(node);
}

static void free_dir(struct map_node *node, void *arg)
{
	free(((struct layer_dir *)node)->slots);
	free(node);
}

void layer_free(struct layer *l)
{
	if (!l)
		return;
	map_each(&l->inodes, free_inode, NULL);
	map_each(&l->entries, free_entry, NULL);
	map_each(&l->dirs, free_dir, NULL);
	map_fini(&l->inodes);
	map_fini(&l->entries);
	map_fini(&l->dirs);
	journal_free(l->journal);
	free(l);
}

static struct layer_inode *find_inode(const struct layer *l, uint64_t ino)
{
	struct map_node *node = map_first(&l->inodes, map_hash_u64(ino));

	while (node && ((struct layer_inode *)node)->attr.ino != ino)
		node = map_next(node);
	return (struct layer_inode *)node;
}

static uint64_t entry_hash(uint64_t parent, const char *name, size_t len)
{
	return checksum64(name, len, parent);
}

static struct layer_entry *find_entry(const struct layer *l, uint64_t parent, const char *name, size_t len)
{
	struct map_node *node;

	if (l->entries.n == 0)
		return NULL;
	for (node = map_first(&l->entries, entry_hash(parent, name, len)); node; node = map_next(node)) {
		struct layer_entry *entry = (struct layer_entry *)node;

		if (entry->parent == parent && entry->len == len && memcmp(entry->name, name, len) == 0)
			return entry;
	}
	return NULL;
}

static struct layer_dir *find_dir(const struct layer *l, uint64_t ino)
{
	struct map_node *node = map_first(&l->dirs, map_hash_u64(ino));

	while (node && ((struct layer_dir *)node)->ino != ino)
		node = map_next(node);
	return (struct layer_dir *)node;
}

const struct layer_inode *layer_inode(const struct layer *l, uint64_t ino)
{
	return find_inode(l, ino);
}

const struct layer_dir *layer_dir(const struct layer *l, uint64_t ino)
{
	return find_dir(l, ino);
}

enum find layer_find(const struct layer *l, uint64_t parent, const char *name, size_t len, uint64_t *ino_out)
{
	const struct layer_entry *entry = find_entry(l, parent, name, len);

	if (!entry)
		return FIND_NONE;
	if (entry->ino == 0)
		return FIND_GONE;
	*ino_out = entry->ino;
	return FIND_HIT;
}

uint64_t layer_changes(const struct layer *l)
{
	return l->inodes.n + l->n_tombstones;
}

/* True when an effect before this one makes the inode, so that it need not be anywhere yet. */
static bool made_before(const struct layer_change *changes, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (changes[i].effect.kind == EFFECT_INODE && changes[i].effect.ino == changes[nr].effect.ino)
			return true;
	}
	return false;
}

static int prepare_inode(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_change *c = &changes[nr];
	bool is_new = c->effect.kind == EFFECT_INODE && (c->effect.fields & INODE_NEW);

	if (find_inode(l, c->effect.ino))
		return 0;
	if (!is_new && !c->below_exists && !made_before(changes, nr))
		return -EUCLEAN;
	c->inode = calloc(1, sizeof(*c->inode));
	return c->inode ? map_reserve(&l->inodes, RECORD_EFFECTS) : -ENOMEM;
}

static int prepare_entry(struct layer *l, struct layer_change *c)
{
	struct layer_dir *dir = find_dir(l, c->effect.parent);
	int r = map_reserve(&l->entries, RECORD_EFFECTS);

	if (r == 0)
		r = map_reserve(&l->dirs, RECORD_EFFECTS);
	if (r < 0)
		return r;
	if (!find_entry(l, c->effect.parent, c->effect.bytes, c->effect.len)) {
		c->entry = malloc(sizeof(*c->entry) + c->effect.len);
		if (!c->entry)
			return -ENOMEM;
	}
	if (!dir) {
		c->dir = calloc(1, sizeof(*c->dir));
		if (!c->dir)
			return -ENOMEM;
		dir = c->dir;
	}
	return layer_dir_reserve(dir, RECORD_EFFECTS);
}

static int prepare_bytes(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_change *c = &changes[nr];

	c->bytes = malloc(c->effect.len + 1);
	if (!c->bytes)
		return -ENOMEM;
	memcpy(c->bytes, c->effect.bytes, c->effect.len);
	return prepare_inode(l, changes, nr);
}

int layer_prepare(struct layer *l, struct layer_change *changes, unsigned int n)
{
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < n; i++) {
		switch (changes[i].effect.kind) {
		case EFFECT_INODE:
			r = prepare_inode(l, changes, i);
			break;
		case EFFECT_ENTRY:
			r = prepare_entry(l, &changes[i]);
			break;
		case EFFECT_TARGET:
		case EFFECT_XATTRS:
			r = prepare_bytes(l, changes, i);
			break;
		}
	}
	return r;
}

void layer_discard(struct layer_change *changes, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		free(changes[i].inode);
		free(changes[i].entry);
		if (changes[i].dir)
			free(changes[i].dir->slots);
		free(changes[i].dir);
		free(changes[i].bytes);
	}
}

/* The inode in this layer, copied up from below if it is not here yet. */
static struct layer_inode *own_inode(struct layer *l, struct layer_change *c)
{
	struct layer_inode *inode = find_inode(l, c->effect.ino);

	if (inode)
		return inode;
	inode = take_ptr(&c->inode);
	if (c->below_exists)
		inode->attr = c->below;
	inode->attr.ino = c->effect.ino;
	map_add(&l->inodes, &inode->node, map_hash_u64(c->effect.ino));
	return inode;
}

static bool content_here(const struct layer *l, const struct inode *attr)
{
	return S_ISREG(attr->mode) && attr->content_layer == l->id;
}

/* Adds an inode to what the layer holds, or takes it out, as it is at this moment. */
static void count(struct layer *l, const struct inode *attr, int sign)
{
	if (content_here(l, attr)) {
		l->bytes += sign > 0 ? attr->size : -attr->size;
		l->blocks += sign > 0 ? attr->blocks : -attr->blocks;
	}
	if (attr->ino >= l->first_ino && attr->nlink > 0)
		l->made += sign;
}

static void commit_inode(struct layer *l, struct layer_change *c)
{
	const struct inode *from = &c->effect.attr;
	unsigned int fields = c->effect.fields;
	struct layer_inode *inode = own_inode(l, c);
	struct inode *to = &inode->attr;

	count(l, to, -1);
	if (fields & INODE_NEW)
		*to = (struct inode){.ino = c->effect.ino, .content_layer = CONTENT_NONE};
	if (fields & INODE_MODE)
		to->mode = from->mode;
	if (fields & INODE_UID)
		to->uid = from->uid;
	if (fields & INODE_GID)
		to->gid = from->gid;
	if (fields & INODE_NLINK)
		to->nlink = from->nlink;
	if (fields & INODE_RDEV)
		to->rdev = from->rdev;
	if (fields & INODE_SIZE)
		to->size = from->size;
	if (fields & INODE_BLOCKS)
		to->blocks = from->blocks;
	if (fields & INODE_ATIME)
		to->atime = from->atime;
	if (fields & INODE_MTIME)
		to->mtime = from->mtime;
	if (fields & INODE_CTIME)
		to->ctime = from->ctime;
	if (fields & INODE_PARENT)
		to->parent = from->parent;
	if (fields & INODE_HERE)
		to->content_layer = l->id;
	if (fields & INODE_HERE || to->size < to->floor)
		to->floor = to->size;
	if (fields & (INODE_DIRTY | INODE_CLEAN))
		to->dirty = fields & INODE_DIRTY;
	count(l, to, 1);
}

static struct layer_dir *own_dir(struct layer *l, struct layer_change *c)
{
	struct layer_dir *dir = find_dir(l, c->effect.parent);

	if (dir)
		return dir;
	dir = take_ptr(&c->dir);
	dir->ino = c->effect.parent;
	map_add(&l->dirs, &dir->node, map_hash_u64(dir->ino));
	return dir;
}

static void drop_entry(struct layer *l, struct layer_dir *dir, struct layer_entry *entry)
{
	if (entry->ino == 0)
		l->n_tombstones--;
	layer_dir_remove(dir, entry);
	map_remove(&l->entries, &entry->node);
	free(entry);
}

static void commit_entry(struct layer *l, struct layer_change *c, uint64_t cookie)
{
	const struct effect *e = &c->effect;
	struct layer_dir *dir = own_dir(l, c);
	struct layer_entry *entry = find_entry(l, e->parent, e->bytes, e->len);

	if (entry && entry->ino == e->ino)
		return;
	if (e->ino == 0 && !c->below_exists) {
		if (entry)
			drop_entry(l, dir, entry);
		return;
	}
	if (entry) {
		layer_dir_remove(dir, entry);
		l->n_tombstones -= entry->ino == 0;
	} else {
		entry = take_ptr(&c->entry);
		entry->parent = e->parent;
		entry->len = (uint8_t)e->len;
		memcpy(entry->name, e->bytes, e->len);
		map_add(&l->entries, &entry->node, entry_hash(e->parent, e->bytes, e->len));
	}
	entry->ino = e->ino;
	entry->cookie = cookie;
	l->n_tombstones += entry->ino == 0;
	layer_dir_add(dir, entry);
}

static void commit_bytes(struct layer *l, struct layer_change *c)
{
	struct layer_inode *inode = own_inode(l, c);

	if (c->effect.kind == EFFECT_TARGET) {
		free(inode->target);
		inode->target = take_ptr(&c->bytes);
		inode->target_len = c->effect.len;
	} else {
		free(inode->xattrs);
		inode->xattrs = take_ptr(&c->bytes);
		inode->xattrs_len = c->effect.len;
		inode->has_xattrs = true;
	}
}

void layer_commit(struct layer *l, struct layer_change *changes, unsigned int n, uint64_t serial)
{
	for (unsigned int i = 0; i < n; i++) {
		struct layer_change *c = &changes[i];

		if (c->effect.kind == EFFECT_INODE)
			commit_inode(l, c);
		else if (c->effect.kind == EFFECT_ENTRY)
			commit_entry(l, c, (UINT64_C(1) << COOKIE_FIRST) + (serial << COOKIE_EFFECTS) + i);
		else
			commit_bytes(l, c);
	}
}

void layer_forget(struct layer *l, uint64_t ino)
{
	struct layer_inode *inode = find_inode(l, ino);
	struct layer_dir *dir = find_dir(l, ino);

	for (size_t i = 0; dir && i < dir->n; i++) {
		struct layer_entry *entry = dir->slots[i].entry;

		if (!entry)
			continue;
		l->n_tombstones -= entry->ino == 0;
		map_remove(&l->entries, &entry->node);
		free(entry);
	}
	if (dir) {
		map_remove(&l->dirs, &dir->node);
		free_dir(&dir->node, NULL);
	}
	if (!inode)
		return;
	count(l, &inode->attr, -1);
	if (!l->sealed && content_here(l, &inode->attr))
		content_remove(l->layersfd, l->id, ino);
	map_remove(&l->inodes, &inode->node);
	free_inode(&inode->node, NULL);
}

void layer_wrote(struct layer *l, uint64_t ino, uint64_t size, struct timespec mtime, struct timespec ctime)
{
	struct layer_inode *inode = find_inode(l, ino);

	if (!inode)
		return;
	l->bytes += size - inode->attr.size;
	inode->attr.size = size;
	inode->attr.mtime = mtime;
	inode->attr.ctime = ctime;
}

void layer_takes(struct layer *l, uint64_t ino, uint64_t blocks)
{
	struct layer_inode *inode = find_inode(l, ino);

	if (!inode)
		return;
	l->blocks += blocks - inode->attr.blocks;
	inode->attr.blocks = blocks;
}
