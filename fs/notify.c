/*
 * notify: collects and sends cache invalidations.
 * Invariant: after notify_send() no lookup, attribute, page or listing that a reset changed is in the
 * kernel's caches.
 * Called by serve.
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
	uint32_t name; /* offset in names */
	uint32_t len;
};

struct notify {
	struct item *items;
	size_t n_items, cap_items;
	char *names;
	size_t n_names, cap_names;
};

struct collect {
	const struct tree *tree;
	struct notify *notify;
	int result;
};

static int add(struct notify *n, uint64_t ino, const char *name, size_t len)
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
	n->items[n->n_items++] = (struct item){.ino = ino, .name = (uint32_t)n->n_names, .len = (uint32_t)len};
	memcpy(n->names + n->n_names, name, len);
	n->names[n->n_names + len] = '\0';
	n->n_names += len + 1;
	return 0;
}

/* True when the kernel can know this inode, and the session still has it. */
static bool is_known(const struct tree *t, uint64_t ino)
{
	struct inode inode;

	if (ino != FUSE_ROOT_ID && pin_count(&t->pins, ino) == 0)
		return false;
	return stack_inode(&t->session->stack, ino, &inode) == 0;
}

static void collect_inode(struct map_node *node, void *arg)
{
	uint64_t ino = ((const struct layer_inode *)node)->attr.ino;
	struct collect *c = arg;

	if (c->result == 0 && is_known(c->tree, ino))
		c->result = add(c->notify, ino, "", 0);
}

static void collect_dir(struct map_node *node, void *arg)
{
	const struct layer_dir *dir = (const struct layer_dir *)node;
	struct collect *c = arg;

	if (!is_known(c->tree, dir->ino))
		return;
	for (size_t i = 0; c->result == 0 && i < dir->n; i++) {
		const struct layer_entry *entry = dir->slots[i].entry;

		if (entry)
			c->result = add(c->notify, dir->ino, entry->name, entry->len);
	}
}

static void collect_layers(struct collect *c, struct layer **layers, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		map_each(&layers[i]->dirs, collect_dir, c);
		map_each(&layers[i]->inodes, collect_inode, c);
	}
}

int notify_collect(const struct tree *t, const struct snapshot_change *change, struct notify **out)
{
	struct collect c = {.tree = t, .notify = calloc(1, sizeof(struct notify))};

	if (!c.notify)
		return -ENOMEM;
	collect_layers(&c, change->gone, change->n_gone);
	collect_layers(&c, change->come, change->n_come);
	if (c.result < 0) {
		notify_free(c.notify);
		return c.result;
	}
	*out = c.notify;
	return 0;
}

void notify_send(const struct notify *n, struct fuse_session *fuse)
{
	/* -ENOENT means that the kernel does not have it, which is what is wanted. */
	for (size_t i = 0; i < n->n_items; i++) {
		const struct item *item = &n->items[i];

		if (item->len)
			fuse_lowlevel_notify_inval_entry(fuse, item->ino, n->names + item->name, item->len);
		else
			fuse_lowlevel_notify_inval_inode(fuse, item->ino, 0, 0);
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
