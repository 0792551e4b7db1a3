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

/* Changes come in runs about the same few inodes, and about new ones: most need no look into the map. */
static struct layer_inode *recall_inode(struct layer *l, uint64_t ino)
{
	struct layer_inode **recent = &l->recent[ino % LAYER_RECENT];

	if (ino >= l->ino_end)
		return NULL;
	if (!*recent || (*recent)->attr.ino != ino)
		*recent = layer_own_inode(l, ino);
	return *recent;
}

bool layer_recall(struct layer *l, const struct effect *effect, struct layer_change *out)
{
	*out = (struct layer_change){.effect = effect};
	if (effect->kind == EFFECT_ENTRY) {
		if (!l->recent_dir || l->recent_dir->ino != effect->parent)
			l->recent_dir = layer_own_dir(l, effect->parent);
		out->hash = layer_dir_hash(effect->bytes, effect->len);
		out->had_dir = l->recent_dir;
		if (out->had_dir)
			out->had_entry = layer_dir_find(out->had_dir, out->hash, effect->bytes, effect->len);
		return effect->ino == 0;
	}
	out->had_inode = recall_inode(l, effect->ino);
	return !out->had_inode && !(effect->kind == EFFECT_INODE && effect->fields & INODE_NEW);
}

/* The effect before this one in its record that is about the same inode: the inode is here when this one's turn comes. */
static const struct layer_change *same_inode(const struct layer_change *changes, unsigned int nr)
{
	for (unsigned int i = nr; i-- > 0;) {
		if (changes[i].effect->kind != EFFECT_ENTRY && changes[i].effect->ino == changes[nr].effect->ino)
			return &changes[i];
	}
	return NULL;
}

static const struct layer_change *same_dir(const struct layer_change *changes, unsigned int nr)
{
	for (unsigned int i = nr; i-- > 0;) {
		if (changes[i].effect->kind == EFFECT_ENTRY && changes[i].effect->parent == changes[nr].effect->parent)
			return &changes[i];
	}
	return NULL;
}

/* Perhaps the same name: the effect may add or drop the entry before this one's turn comes. */
static bool same_name_before(const struct layer_change *changes, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (changes[i].effect->kind == EFFECT_ENTRY && changes[i].hash == changes[nr].hash)
			return true;
	}
	return false;
}

static int prepare_inode(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_change *c = &changes[nr];
	bool is_new = c->effect->kind == EFFECT_INODE && (c->effect->fields & INODE_NEW);

	if (c->had_inode || same_inode(changes, nr))
		return 0;
	if (!is_new && !c->below_exists)
		return -EUCLEAN;
	c->inode = pool_get(&l->pool, sizeof(*c->inode));
	return c->inode ? map_reserve(&l->inodes, RECORD_EFFECTS) : -ENOMEM;
}

static int prepare_entry(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_change *c = &changes[nr];
	int r = map_reserve(&l->dirs, RECORD_EFFECTS);

	if (r < 0)
		return r;
	if (!c->had_entry || same_name_before(changes, nr)) {
		c->entry = pool_get(&l->pool, sizeof(*c->entry) + c->effect->len);
		if (!c->entry)
			return -ENOMEM;
		c->entry->len = (uint8_t)c->effect->len;
	}
	if (c->had_dir)
		return layer_dir_reserve(c->had_dir, RECORD_EFFECTS);
	if (same_dir(changes, nr))
		return 0;
	c->dir = calloc(1, sizeof(*c->dir));
	return c->dir ? layer_dir_reserve(c->dir, RECORD_EFFECTS) : -ENOMEM;
}

static int prepare_bytes(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_change *c = &changes[nr];

	c->bytes = malloc(sizeof(*c->bytes) + c->effect->len);
	if (!c->bytes)
		return -ENOMEM;
	c->bytes->len = c->effect->len;
	memcpy(c->bytes->bytes, c->effect->bytes, c->effect->len);
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

static bool partial_before(const struct layer_change *changes, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (changes[i].effect->kind == EFFECT_PARTIAL && changes[i].effect->ino == changes[nr].effect->ino)
			return true;
	}
	return false;
}

/* A file that is here, in part or (where layers were joined) whole. */
static int prepare_part(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_inode *inode = changes[nr].had_inode;

	if (partial_before(changes, nr))
		return 0;
	if (!inode || !layer_has_content(l, &inode->attr))
		return -EUCLEAN;
	return inode->part ? reserve_parts(inode->part) : 0;
}

int layer_prepare(struct layer *l, struct layer_change *changes, unsigned int n)
{
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < n; i++) {
		switch (changes[i].effect->kind) {
		case EFFECT_INODE:
			r = prepare_inode(l, changes, i);
			break;
		case EFFECT_ENTRY:
			r = prepare_entry(l, changes, i);
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
		const struct effect *e = changes[i].effect;
		const struct layer_entry *entry = changes[i].had_entry;

		if (e->kind == EFFECT_ENTRY)
			owed += layer_owed_for(e->ino, e->len) - (entry ? layer_owed_for(entry->ino, entry->len) : 0);
	}
	return owed;
}

void layer_discard(struct layer *l, struct layer_change *changes, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		pool_put(&l->pool, changes[i].inode, sizeof(*changes[i].inode));
		if (changes[i].entry)
			layer_free_entry(l, changes[i].entry);
		if (changes[i].dir)
			layer_dir_fini(changes[i].dir);
		free(changes[i].dir);
		free(changes[i].bytes);
		layer_part_free(changes[i].part);
	}
}

/* The inode in this layer, copied up from below if it is not here yet. */
static struct layer_inode *changed_inode(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_change *c = &changes[nr];
	const struct layer_change *before;

	if (c->had_inode)
		return c->had_inode;
	before = same_inode(changes, nr);
	if (before) {
		c->had_inode = before->had_inode;
		return c->had_inode;
	}
	c->had_inode = take_ptr(&c->inode);
	*c->had_inode = (struct layer_inode){.node = {0}};
	if (c->below_exists)
		c->had_inode->attr = c->below;
	c->had_inode->attr.ino = c->effect->ino;
	map_add(&l->inodes, &c->had_inode->node, map_hash_u64(c->effect->ino));
	l->n_unsettled += layer_unsettled(c->had_inode);
	l->recent[c->effect->ino % LAYER_RECENT] = c->had_inode;
	if (c->effect->ino >= l->ino_end)
		l->ino_end = c->effect->ino + 1;
	return c->had_inode;
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

static void commit_inode(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	const struct inode *from = &changes[nr].effect->attr;
	unsigned int fields = changes[nr].effect->fields;
	struct layer_inode *inode = changed_inode(l, changes, nr);
	struct inode *to = &inode->attr;

	layer_count(l, inode, -1);
	l->n_unsettled -= layer_unsettled(inode);
	if (fields & INODE_NEW)
		*to = (struct inode){.ino = to->ino, .content_layer = CONTENT_NONE};
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
	l->n_unsettled += layer_unsettled(inode);
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

static struct layer_dir *changed_dir(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_change *c = &changes[nr];
	const struct layer_change *before;

	if (c->had_dir)
		return c->had_dir;
	before = same_dir(changes, nr);
	if (before) {
		c->had_dir = before->had_dir;
		return c->had_dir;
	}
	c->had_dir = take_ptr(&c->dir);
	c->had_dir->ino = c->effect->parent;
	map_add(&l->dirs, &c->had_dir->node, map_hash_u64(c->effect->parent));
	l->recent_dir = c->had_dir;
	return c->had_dir;
}

static void drop_entry(struct layer *l, struct layer_dir *dir, struct layer_entry *entry)
{
	if (entry->ino == 0)
		l->n_tombstones--;
	l->owed -= layer_owed_for(entry->ino, entry->len);
	layer_dir_remove(dir, entry);
	layer_free_entry(l, entry);
}

static void commit_entry(struct layer *l, struct layer_change *changes, unsigned int nr, uint64_t cookie)
{
	struct layer_change *c = &changes[nr];
	const struct effect *e = c->effect;
	struct layer_dir *dir = changed_dir(l, changes, nr);
	struct layer_entry *entry = c->had_entry;

	if (same_name_before(changes, nr))
		entry = layer_dir_find(dir, c->hash, e->bytes, e->len);
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
		memcpy(entry->name, e->bytes, e->len);
	}
	entry->ino = e->ino;
	entry->cookie = cookie;
	l->n_tombstones += entry->ino == 0;
	l->owed += layer_owed_for(entry->ino, entry->len);
	layer_dir_add(dir, entry, c->hash);
}

static void commit_bytes(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_change *c = &changes[nr];
	struct layer_inode *inode = changed_inode(l, changes, nr);
	struct layer_bytes **bytes = c->effect->kind == EFFECT_TARGET ? &inode->target : &inode->xattrs;

	l->apart = true;
	free(*bytes);
	*bytes = take_ptr(&c->bytes);
}

static void commit_partial(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_change *c = &changes[nr];
	struct layer_inode *inode = changed_inode(l, changes, nr);
	bool was_here = layer_has_content(l, &inode->attr);

	layer_count(l, inode, -1);
	if (was_here && inode->part) { /* layers were joined: see record.h */
		inode->part->cap = inode->part->below;
		set_below(inode, c->effect->to);
	} else if (!was_here) {
		drop_part(inode);
		inode->part = take_ptr(&c->part);
		l->apart = true;
		inode->part->cap = UINT64_MAX;
		inode->attr.content_layer = l->id;
		set_below(inode, c->effect->to);
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

static void commit_part(struct layer *l, struct layer_change *changes, unsigned int nr)
{
	struct layer_change *c = &changes[nr];
	struct layer_inode *inode = changed_inode(l, changes, nr);

	if (!inode->part)
		return;
	layer_count(l, inode, -1);
	if (c->effect->kind == EFFECT_PART)
		add_part(inode->part, c->effect->from, c->effect->to);
	set_below(inode, c->effect->kind == EFFECT_BELOW ? c->effect->to : inode->part->below);
	layer_count(l, inode, 1);
}

void layer_commit(struct layer *l, struct layer_change *changes, unsigned int n, uint64_t serial)
{
	for (unsigned int i = 0; i < n; i++) {
		switch (changes[i].effect->kind) {
		case EFFECT_INODE:
			commit_inode(l, changes, i);
			break;
		case EFFECT_ENTRY:
			commit_entry(l, changes, i, (UINT64_C(1) << COOKIE_FIRST) + (serial << COOKIE_EFFECTS) + i);
			break;
		case EFFECT_TARGET:
		case EFFECT_XATTRS:
			commit_bytes(l, changes, i);
			break;
		case EFFECT_PARTIAL:
			commit_partial(l, changes, i);
			break;
		case EFFECT_PART:
		case EFFECT_BELOW:
			commit_part(l, changes, i);
			break;
		}
	}
}
