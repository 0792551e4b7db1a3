/*
 * notify: collects and sends cache invalidations.
 * Invariant: after notify_expire() no name, attribute, page or listing that a reset changed is believed by the kernel
 * without asking again.
 * Called by serve_control.
 */
#include "notify.h"

#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>

/* A name in a directory; with an empty name the inode itself. */
struct item {
	uint64_t ino;
	uint64_t gone; /* the inode that had this name and is no more, or 0 */
	uint32_t name; /* offset in names */
	uint16_t len;
	bool moved; /* a directory had this name and has another now */
};

struct notify {
	struct item *items;
	size_t n_items, cap_items;
	char *names;
	size_t n_names, cap_names;
};

struct collect {
	struct tree *tree;
	struct stack before; /* the session as it was */
	struct notify *notify;
	int result;
};

static int add(struct notify *n, struct item item, const char *name, size_t len)
{
	if (n->n_items == n->cap_items) {
		size_t cap = n->cap_items ? n->cap_items * 2 : 256;
		struct item *grown = reallocarray(n->items, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		n->items = grown;
		n->cap_items = cap;
	}
	if (n->cap_names - n->n_names < len + 1) {
		size_t cap = (n->cap_names ? n->cap_names * 2 : 4096) + len;
		char *grown = realloc(n->names, cap);

		if (!grown)
			return -ENOMEM;
		n->names = grown;
		n->cap_names = cap;
	}
	item.name = (uint32_t)n->n_names;
	item.len = (uint16_t)len;
	n->items[n->n_items++] = item;
	memcpy(n->names + n->n_names, name, len);
	n->names[n->n_names + len] = '\0';
	n->n_names += len + 1;
	return 0;
}

static bool kernel_has(const struct tree *t, uint64_t ino)
{
	return ino == FUSE_ROOT_ID || pin_count(&t->pins, ino) > 0;
}

static bool is_there(const struct tree *t, uint64_t ino)
{
	struct inode inode;

	return stack_inode(&t->session->stack, ino, &inode) == 0;
}

/*
 * The kernel marks a directory that was removed as dead for as long as it holds it: one that the reset brings back has to be
 * another one for it.
 */
static void collect_inode(struct map_node *node, void *arg)
{
	const struct inode *was = &((const struct layer_inode *)node)->attr;
	struct collect *c = arg;

	if (c->result < 0 || !kernel_has(c->tree, was->ino) || !is_there(c->tree, was->ino))
		return;
	c->result = add(c->notify, (struct item){.ino = was->ino}, "", 0);
	if (c->result == 0 && S_ISDIR(was->mode) && was->nlink == 0)
		c->result = pin_renew(&c->tree->pins, was->ino);
}

/* What became of the inode that had the name. */
static struct item item_of(const struct collect *c, uint64_t dir, const struct layer_entry *entry)
{
	const struct stack *now = &c->tree->session->stack;
	struct item item = {.ino = dir};
	struct inode inode;
	uint64_t was, is;

	if (stack_find(&c->before, dir, entry->name, entry->len, &was) < 0)
		return item;
	if (stack_inode(now, was, &inode) < 0)
		item.gone = was;
	else if (S_ISDIR(inode.mode))
		item.moved = stack_find(now, dir, entry->name, entry->len, &is) < 0 || is != was;
	return item;
}

/* Of a directory that is no more only those names matter whose directories are elsewhere now: see notify_expire(). */
static void collect_dir(struct map_node *node, void *arg)
{
	const struct layer_dir *dir = (const struct layer_dir *)node;
	struct collect *c = arg;
	bool there;

	if (!kernel_has(c->tree, dir->ino))
		return;
	there = is_there(c->tree, dir->ino);
	for (size_t i = 0; c->result == 0 && i < dir->n; i++) {
		const struct layer_entry *entry = dir->slots[i].entry;
		struct item item = entry ? item_of(c, dir->ino, entry) : (struct item){0};

		if (there ? entry != NULL : item.moved)
			c->result = add(c->notify, item, entry->name, entry->len);
	}
}

static void collect_layers(struct collect *c, struct layer **layers, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		layer_each_dir(layers[i], collect_dir, c);
		layer_each_inode(layers[i], collect_inode, c);
	}
}

/* The layers of both states, and those that are gone. */
static int view_before(struct collect *c, const struct snapshot_change *change)
{
	const struct stack *now = &c->tree->session->stack;
	unsigned int common = now->n - change->n_come - 1; /* and an empty one */

	c->before = (struct stack){.base = now->base, .n = common + change->n_gone};
	c->before.layers = calloc(c->before.n, sizeof(struct layer *));
	if (!c->before.layers)
		return -ENOMEM;
	memcpy(c->before.layers, now->layers, common * sizeof(struct layer *));
	memcpy(c->before.layers + common, change->gone, change->n_gone * sizeof(struct layer *));
	return 0;
}

int notify_collect(struct tree *t, const struct snapshot_change *change, struct notify **out)
{
	struct collect c = {.tree = t, .notify = calloc(1, sizeof(struct notify))};

	if (!c.notify)
		return -ENOMEM;
	c.result = view_before(&c, change);
	if (c.result == 0) {
		collect_layers(&c, change->gone, change->n_gone);
		collect_layers(&c, change->come, change->n_come);
	}
	free(c.before.layers);
	if (c.result < 0) {
		notify_free(c.notify);
		return c.result;
	}
	*out = c.notify;
	return 0;
}

/* The call's shape differs between versions of libfuse. Kernels before 6.2 take it for an invalidation. */
static int expire(struct fuse_session *fuse, uint64_t dir, const char *name, size_t len)
{
#ifdef HAVE_EXPIRE_FLAGS
	return fuse_lowlevel_notify_expire_entry(fuse, dir, name, len, FUSE_LL_EXPIRE_ONLY);
#else
	return fuse_lowlevel_notify_expire_entry(fuse, dir, name, len);
#endif
}

/*
 * -ENOENT means that the kernel does not have it, which is what is wanted. A directory has one place for the kernel: with an old name
 * that is only expired, the first rename(2) of it from its new place to another directory would fail with ESTALE.
 */
void notify_expire(const struct notify *n, struct fuse_session *fuse)
{
	for (size_t i = 0; i < n->n_items; i++) {
		const struct item *item = &n->items[i];
		const char *name = n->names + item->name;

		if (!item->len)
			fuse_lowlevel_notify_inval_inode(fuse, item->ino, 0, 0);
		else if (item->moved || expire(fuse, item->ino, name, item->len) == -ENOSYS)
			fuse_lowlevel_notify_inval_entry(fuse, item->ino, name, item->len);
	}
}

/* The kernel deletes no directory below which something is in use. */
void notify_evict(const struct notify *n, bool in_use, struct fuse_session *fuse)
{
	for (size_t i = 0; i < n->n_items; i++) {
		const struct item *item = &n->items[i];
		const char *name = n->names + item->name;

		if (item->gone && in_use)
			fuse_lowlevel_notify_inval_entry(fuse, item->ino, name, item->len);
		else if (item->gone)
			fuse_lowlevel_notify_delete(fuse, item->ino, item->gone, name, item->len);
	}
}

void notify_free(struct notify *n)
{
	if (!n)
		return;
	free(n->items);
	free(n->names);
	free(n);
}
