/*
 * stack: the merged view of a base and the layers on it. Readers only; nothing here changes anything.
 *
 * The topmost layer that has an answer wins; a tombstone is an answer.
 */
#pragma once

#include "base.h"
#include "layer.h"

struct stack {
	const struct base *base;
	struct layer **layers; /* bottom first; the last is the one being written */
	unsigned int n;
};

static inline struct layer *stack_top(const struct stack *s)
{
	return s->layers[s->n - 1];
}

/* The view from under the top layer, as its replay needs it. Borrows s. */
static inline struct stack stack_below(const struct stack *s)
{
	return (struct stack){.base = s->base, .layers = s->layers, .n = s->n - 1};
}

/* The layer of this number, NULL when it is not in the stack. */
struct layer *stack_layer(const struct stack *s, uint32_t id);

/* Tells the lowest n layers from any others: they have these numbers, in this order. */
uint64_t stack_numbers(const struct stack *s, unsigned int n);

int stack_inode(const struct stack *s, uint64_t ino, struct inode *out); /* 0, -ESTALE, -EUCLEAN */

/*
 * The same as it is from under the layer of this number, which must be in the stack. A file whose content is in no layer there
 * is damage, too: so who looks for its parts comes to an end.
 */
int stack_inode_under(const struct stack *s, uint32_t id, uint64_t ino, struct inode *out);

/* 0, -ENOENT, -EUCLEAN. Whether parent is a directory is not looked at. */
int stack_find(const struct stack *s, uint64_t parent, const char *name, size_t len, uint64_t *ino_out);

/* Borrowed until the next change of the session. */
int stack_target(const struct stack *s, uint64_t ino, const char **target_out, size_t *len_out);
int stack_xattrs(const struct stack *s, uint64_t ino, struct xattr_set *out);

struct stack_entry {
	uint64_t ino;
	uint64_t cookie;  /* stays the entry's as long as it has this name; grows in the order of the walk */
	const char *name; /* no terminator */
	size_t name_len;
};

/* A walk over one directory; valid until the next change of the session. */
struct stack_walk {
	const struct stack *stack;
	uint64_t dir;
	uint64_t base_at, base_end, base_first;
	unsigned int layer; /* being walked, after the base */
	size_t slot;
	uint64_t after; /* entries up to this cookie are left out */
};

/*
 * Starts behind the entry with this cookie, 0 at the beginning. Cookies below STACK_COOKIE_FIRST are never an
 * entry's.
 */
enum { STACK_COOKIE_FIRST = 3 };
int stack_walk_start(const struct stack *s, uint64_t dir, uint64_t cookie, struct stack_walk *out);

/* 1 and the next entry, 0 at the end, -EUCLEAN. */
int stack_walk_next(struct stack_walk *w, struct stack_entry *out);
