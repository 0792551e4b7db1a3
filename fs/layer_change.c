/*
 * layer_change: puts the effects of a record into a layer's maps.
 * Invariant: layer_prepare() gets all memory and changes nothing; layer_commit() cannot fail.
 * Called by session.
 */
#include "layer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"

enum { COOKIE_FIRST = 33, COOKIE_EFFECTS = 4 }; /* bits: above all cookies of a base, room for a record's effects */

/* True when an effect of this kind before this one tells of the inode. */
static bool told_before(const struct layer_change *changes, unsigned int nr, enum effect_kind kind)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (changes[i].effect.kind == kind && changes[i].effect.ino == changes[nr].effect.ino)
			return true;
	}
	return false;
}

static int prepare_inode(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_change *c = &changes[nr];
	bool is_new = c->effect.kind == EFFECT_INODE && (c->effect.fields & INODE_NEW);

	if (layer_own_inode(l, c->effect.ino))
		return 0;
	if (!is_new && !c->below_exists && !told_before(changes, nr, EFFECT_INODE))
		return -EUCLEAN;
	c->inode = calloc(1, sizeof(*c->inode));
	return c->inode ? map_reserve(&l->inodes, RECORD_EFFECTS) : -ENOMEM;
}

static int prepare_entry(struct layer *l, struct layer_change *c)
{
	struct layer_dir *dir = layer_own_dir(l, c->effect.parent);
	int r = map_reserve(&l->entries, RECORD_EFFECTS);

	if (r == 0)
		r = map_reserve(&l->dirs, RECORD_EFFECTS);
	if (r < 0)
		return r;
	if (!layer_own_entry(l, c->effect.parent, c->effect.bytes, c->effect.len)) {
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

static int reserve_parts(struct layer_part *part)
{
	int r = ranges_reserve(&part->here, RECORD_EFFECTS);

	return r < 0 ? r : ranges_reserve(&part->fresh, RECORD_EFFECTS);
}

static int prepare_partial(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_change *c = &changes[nr];

	c->part = calloc(1, sizeof(*c->part));
	if (!c->part || reserve_parts(c->part) < 0)
		return -ENOMEM;
	return prepare_inode(l, changes, nr);
}

/* A file that is here, in part or (where layers were joined) whole. */
static int prepare_part(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_inode *inode = layer_own_inode(l, changes[nr].effect.ino);

	if (told_before(changes, nr, EFFECT_PARTIAL))
		return 0;
	if (!inode || !layer_has_content(l, &inode->attr))
		return -EUCLEAN;
	return inode->part ? reserve_parts(inode->part) : 0;
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
		case EFFECT_PARTIAL:
			r = prepare_partial(l, changes, i);
			break;
		case EFFECT_PART:
		case EFFECT_BELOW:
			r = prepare_part(l, changes, i);
			break;
		}
	}
	return r;
}

uint64_t layer_will_owe(const struct layer *l, const struct layer_change *changes, unsigned int n)
{
	uint64_t owed = l->owed;

	for (unsigned int i = 0; i < n; i++) {
		const struct effect *e = &changes[i].effect;
		const struct layer_entry *entry;

		if (e->kind != EFFECT_ENTRY)
			continue;
		entry = layer_own_entry(l, e->parent, e->bytes, e->len);
		owed += layer_owed_for(e->ino, e->len) - (entry ? layer_owed_for(entry->ino, entry->len) : 0);
	}
	return owed;
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
		layer_part_free(changes[i].part);
	}
}

/* The inode in this layer, copied up from below if it is not here yet. */
static struct layer_inode *changed_inode(struct layer *l, struct layer_change *c)
{
	struct layer_inode *inode = layer_own_inode(l, c->effect.ino);

	if (inode)
		return inode;
	inode = take_ptr(&c->inode);
	if (c->below_exists)
		inode->attr = c->below;
	inode->attr.ino = c->effect.ino;
	map_add(&l->inodes, &inode->node, map_hash_u64(c->effect.ino));
	return inode;
}

/* How many of the first bytes the file shares with the layer below, when it does not have them all. */
static void set_below(struct layer_inode *inode, uint64_t below)
{
	struct layer_part *part = inode->part;
	bool in;

	part->below = below < part->cap ? below : part->cap;
	inode->attr.below = ranges_end(&part->here, 0, &in) >= part->below && in ? 0 : part->below;
}

static void drop_part(struct layer_inode *inode)
{
	layer_part_free(inode->part);
	inode->part = NULL;
	inode->attr.below = 0;
}

static void commit_inode(struct layer *l, struct layer_change *c)
{
	const struct inode *from = &c->effect.attr;
	unsigned int fields = c->effect.fields;
	struct layer_inode *inode = changed_inode(l, c);
	struct inode *to = &inode->attr;

	layer_count(l, inode, -1);
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
	if (fields & (INODE_NEW | INODE_HERE))
		drop_part(inode);
	else if (inode->part && to->size < inode->part->below)
		set_below(inode, to->size);
	layer_count(l, inode, 1);
}

void layer_uncut(struct layer *l, uint64_t ino, uint64_t below)
{
	struct layer_inode *inode = layer_own_inode(l, ino);

	if (!inode || !inode->part)
		return;
	layer_count(l, inode, -1);
	set_below(inode, below);
	layer_count(l, inode, 1);
}

static struct layer_dir *changed_dir(struct layer *l, struct layer_change *c)
{
	struct layer_dir *dir = layer_own_dir(l, c->effect.parent);

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
	l->owed -= layer_owed_for(entry->ino, entry->len);
	layer_dir_remove(dir, entry);
	map_remove(&l->entries, &entry->node);
	free(entry);
}

static void commit_entry(struct layer *l, struct layer_change *c, uint64_t cookie)
{
	const struct effect *e = &c->effect;
	struct layer_dir *dir = changed_dir(l, c);
	struct layer_entry *entry = layer_own_entry(l, e->parent, e->bytes, e->len);

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
		l->owed -= layer_owed_for(entry->ino, entry->len);
	} else {
		entry = take_ptr(&c->entry);
		entry->parent = e->parent;
		entry->len = (uint8_t)e->len;
		memcpy(entry->name, e->bytes, e->len);
		map_add(&l->entries, &entry->node, layer_entry_hash(e->parent, e->bytes, e->len));
	}
	entry->ino = e->ino;
	entry->cookie = cookie;
	l->n_tombstones += entry->ino == 0;
	l->owed += layer_owed_for(entry->ino, entry->len);
	layer_dir_add(dir, entry);
}

static void commit_bytes(struct layer *l, struct layer_change *c)
{
	struct layer_inode *inode = changed_inode(l, c);

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

static void commit_partial(struct layer *l, struct layer_change *c)
{
	struct layer_inode *inode = changed_inode(l, c);
	bool was_here = layer_has_content(l, &inode->attr);

	layer_count(l, inode, -1);
	if (was_here && inode->part) { /* layers were joined: see record.h */
		inode->part->cap = inode->part->below;
		set_below(inode, c->effect.to);
	} else if (!was_here) {
		drop_part(inode);
		inode->part = take_ptr(&c->part);
		inode->part->cap = UINT64_MAX;
		inode->attr.content_layer = l->id;
		set_below(inode, c->effect.to);
	}
	inode->attr.floor = inode->attr.size;
	layer_count(l, inode, 1);
}

static void add_part(struct layer_part *part, uint64_t from, uint64_t to)
{
	bool in;

	if (ranges_end(&part->here, from, &in) >= to && in) {
		ranges_clear(&part->fresh);
		return;
	}
	ranges_add(&part->here, from, to);
	ranges_add(&part->fresh, from, to);
}

static void commit_part(struct layer *l, struct layer_change *c)
{
	struct layer_inode *inode = changed_inode(l, c);

	if (!inode->part)
		return;
	layer_count(l, inode, -1);
	if (c->effect.kind == EFFECT_PART)
		add_part(inode->part, c->effect.from, c->effect.to);
	set_below(inode, c->effect.kind == EFFECT_BELOW ? c->effect.to : inode->part->below);
	layer_count(l, inode, 1);
}

void layer_commit(struct layer *l, struct layer_change *changes, unsigned int n, uint64_t serial)
{
	for (unsigned int i = 0; i < n; i++) {
		struct layer_change *c = &changes[i];

		if (c->effect.kind == EFFECT_INODE)
			commit_inode(l, c);
		else if (c->effect.kind == EFFECT_ENTRY)
			commit_entry(l, c, (UINT64_C(1) << COOKIE_FIRST) + (serial << COOKIE_EFFECTS) + i);
		else if (c->effect.kind == EFFECT_PARTIAL)
			commit_partial(l, c);
		else if (c->effect.kind == EFFECT_PART || c->effect.kind == EFFECT_BELOW)
			commit_part(l, c);
		else
			commit_bytes(l, c);
	}
}
