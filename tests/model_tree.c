/*
 * model_tree: the model's side that calls the tree, without a mount.
 * Invariant: an open file is held.
 * Called by model_run.
 */
#include "model.h"

static void prepare(struct model *m)
{
}

static void start(struct model *m)
{
	world_open(&m->w);
}

static int apply(struct model *m, const struct op *op)
{
	return op_tree(&m->w, op);
}

static int open_slot(struct model *m, unsigned int slot, const char *path)
{
	struct inode inode;
	int r = world_find(&m->w, path, &inode);

	if (r < 0)
		return r;
	m->tree_slots[slot] = inode.ino;
	return tree_hold(&m->w.tree, inode.ino);
}

static void close_slot(struct model *m, unsigned int slot)
{
	tree_release(&m->w.tree, m->tree_slots[slot], 1);
}

static ssize_t read_slot(struct model *m, unsigned int slot, void *buf, size_t len, uint64_t at)
{
	return tree_read(&m->w.tree, m->tree_slots[slot], buf, len, at);
}

static ssize_t write_slot(struct model *m, unsigned int slot, const void *buf, size_t len, uint64_t at)
{
	return tree_write(&m->w.tree, m->tree_slots[slot], buf, len, at);
}

static int cut_slot(struct model *m, unsigned int slot, uint64_t size)
{
	return world_truncate(&m->w, m->tree_slots[slot], size);
}

static void take_snapshot(struct model *m, const char *name)
{
	world_snapshot(&m->w, name);
}

static void reset(struct model *m, const char *name)
{
	world_reset(&m->w, name);
}

static void delete_snapshot(struct model *m, const char *name)
{
	world_delete(&m->w, name);
}

/* Numbers and times too are what they were. */
static void reopen(struct model *m, bool crash)
{
	char *before = dump_world(&m->w, crash ? DUMP_INOS : DUMP_ALL);

	if (crash)
		world_crash(&m->w);
	else
		world_close(&m->w);
	world_open(&m->w);
	dump_expect_world(&m->w, crash ? DUMP_INOS : DUMP_ALL, before, "reopened");
	free(before);
}

static char *dump(struct model *m)
{
	return dump_world(&m->w, m->options.xattrs ? DUMP_KEPT : DUMP_PLAIN);
}

static void clean(struct model *m)
{
}

const struct side side_tree = {
	.name = "tree",
	.prepare = prepare,
	.start = start,
	.clean = clean,
	.apply = apply,
	.open = open_slot,
	.close = close_slot,
	.read = read_slot,
	.write = write_slot,
	.cut = cut_slot,
	.snapshot = take_snapshot,
	.reset = reset,
	.delete = delete_snapshot,
	.reopen = reopen,
	.dump = dump,
};
