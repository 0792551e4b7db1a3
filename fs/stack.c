/*
 * stack: asks the layers from the top down, then the base.
 * Invariant: a walk gives every name once, from the layer that decides it.
 * Called by session and tree.
 */
#include "stack.h"

#include <errno.h>

#include "checksum.h"
#include "format.h"

struct layer *stack_layer(const struct stack *s, uint32_t id)
{
	for (unsigned int i = s->n; i-- > 0;) {
		if (s->layers[i]->id == id)
			return s->layers[i];
	}
	return NULL;
}

uint64_t stack_numbers(const struct stack *s, unsigned int n)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < n; i++) {
		struct le32 id = le32(s->layers[i]->id);

		sum = checksum64(&id, sizeof(id), sum);
	}
	return sum;
}

int stack_inode(const struct stack *s, uint64_t ino, struct inode *out)
{
	for (unsigned int i = s->n; i-- > 0;) {
		const struct layer_inode *inode = layer_inode(s->layers[i], ino);

		if (inode) {
			*out = inode->attr;
			return 0;
		}
	}
	return index_inode(s->base->index, ino, out);
}

static bool has_content_of(const struct stack *s, const struct inode *inode)
{
	return inode->content_layer == CONTENT_BASE || inode->content_layer == CONTENT_NONE ||
	       stack_layer(s, inode->content_layer);
}

int stack_inode_under(const struct stack *s, uint32_t id, uint64_t ino, struct inode *out)
{
	struct stack under = *s;
	struct inode found;
	int r;

	while (under.n > 0 && under.layers[under.n - 1]->id != id)
		under.n--;
	if (under.n == 0)
		return -EUCLEAN;
	under.n--;
	r = stack_inode(&under, ino, &found);
	if (r == 0 && S_ISREG(found.mode) && !has_content_of(&under, &found))
		r = -EUCLEAN;
	if (r == 0)
		*out = found;
	return r;
}

int stack_find(const struct stack *s, uint64_t parent, const char *name, size_t len, uint64_t *ino_out)
{
	for (unsigned int i = s->n; i-- > 0;) {
		switch (layer_find(s->layers[i], parent, name, len, ino_out)) {
		case FIND_HIT:
			return 0;
		case FIND_GONE:
			return -ENOENT;
		case FIND_NONE:
			break;
		}
	}
	return index_lookup(s->base->index, parent, name, len, ino_out);
}

int stack_target(const struct stack *s, uint64_t ino, const char **target_out, size_t *len_out)
{
	for (unsigned int i = s->n; i-- > 0;) {
		const struct layer_inode *inode = layer_inode(s->layers[i], ino);

		if (inode && inode->target) {
			*target_out = (const char *)inode->target->bytes;
			*len_out = inode->target->len;
			return 0;
		}
	}
	return index_target(s->base->index, ino, target_out, len_out);
}

int stack_xattrs(const struct stack *s, uint64_t ino, struct xattr_set *out)
{
	struct inode inode;
	int r;

	for (unsigned int i = s->n; i-- > 0;) {
		const struct layer_inode *found = layer_inode(s->layers[i], ino);

		if (found && found->xattrs) {
			*out = (struct xattr_set){found->xattrs->bytes, found->xattrs->len};
			return 0;
		}
	}
	r = stack_inode(s, ino, &inode);
	if (r < 0)
		return r;
	r = index_xattrs(s->base->index, ino, out);
	if (r == -ESTALE) {
		*out = (struct xattr_set){0};
		return 0;
	}
	return r;
}

int stack_walk_start(const struct stack *s, uint64_t dir, uint64_t cookie, struct stack_walk *out)
{
	struct stack_walk w = {.stack = s, .dir = dir, .after = cookie};
	uint64_t count = 0;
	int r = index_dir(s->base->index, dir, &w.base_first, &count);
	uint64_t skip = cookie < STACK_COOKIE_FIRST ? 0 : cookie - STACK_COOKIE_FIRST + 1;
	const struct layer_dir *layer;

	if (r == -EUCLEAN)
		return r;
	w.base_end = w.base_first + count;
	w.base_at = skip < count ? w.base_first + skip : w.base_end;
	layer = s->n ? layer_dir(s->layers[0], dir) : NULL;
	w.slot = layer ? layer_dir_after(layer, cookie) : 0;
	*out = w;
	return 0;
}

/* True when a layer from `from` up has an answer for this name. */
static bool decided_above(const struct stack_walk *w, unsigned int from, const char *name, size_t len)
{
	uint64_t ino;

	for (unsigned int i = from; i < w->stack->n; i++) {
		if (layer_find(w->stack->layers[i], w->dir, name, len, &ino) != FIND_NONE)
			return true;
	}
	return false;
}

static int next_of_base(struct stack_walk *w, struct stack_entry *out)
{
	while (w->base_at < w->base_end) {
		uint64_t nr = w->base_at++;
		struct index_entry entry;

		if (index_entry(w->stack->base->index, nr, &entry) < 0)
			return -EUCLEAN;
		if (decided_above(w, 0, entry.name, entry.name_len))
			continue;
		*out = (struct stack_entry){
			.ino = entry.ino,
			.cookie = nr - w->base_first + STACK_COOKIE_FIRST,
			.name = entry.name,
			.name_len = entry.name_len,
		};
		return 1;
	}
	return 0;
}

static void next_layer(struct stack_walk *w)
{
	const struct layer_dir *dir;

	w->layer++;
	if (w->layer == w->stack->n)
		return;
	dir = layer_dir(w->stack->layers[w->layer], w->dir);
	w->slot = dir ? layer_dir_after(dir, w->after) : 0;
}

int stack_walk_next(struct stack_walk *w, struct stack_entry *out)
{
	int r = next_of_base(w, out);

	if (r != 0)
		return r;
	while (w->layer < w->stack->n) {
		const struct layer_dir *dir = layer_dir(w->stack->layers[w->layer], w->dir);
		const struct layer_entry *entry;

		if (!dir || w->slot >= dir->n) {
			next_layer(w);
			continue;
		}
		entry = dir->slots[w->slot++].entry;
		if (!entry || entry->ino == 0 || decided_above(w, w->layer + 1, entry->name, entry->len))
			continue;
		*out = (struct stack_entry){
			.ino = entry->ino,
			.cookie = entry->cookie,
			.name = entry->name,
			.name_len = entry->len,
		};
		return 1;
	}
	return 0;
}
