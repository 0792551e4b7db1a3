/*
 * unit_tabled: worlds whose sealed layers have tables, and what must be the same in a mapped layer and in a replayed one.
 * Invariant: layers are loaded as they are on disk, beside those of the open session.
 * Called by the tests of tables and their fuzz target.
 */
#include "unit_tabled.h"

#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checksum.h"
#include "format.h"
#include "unit.h"
#include "unit_inode.h"

static void fill_base(int basefd)
{
	static char large[TABLED_LARGE];

	memset(large, 'b', sizeof(large));
	place_put(basefd, "n0", large, sizeof(large));
	place_put(basefd, "n1", "small", 5);
	assert_int_equal(mkdirat(basefd, "n2", 0755), 0);
	place_put(basefd, "n2/n3", large, sizeof(large));
	for (int i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n2/b%d", i);
		place_put(basefd, name, "b", 1);
	}
}

int tabled_setup(void **state)
{
	*state = world_new(fill_base);
	return 0;
}

/* The session's layers as they are on disk, loaded anew: mapped where that can be, or all replayed. */
void tabled_load(struct world *w, bool only_replay, struct stack *out)
{
	struct session *s = &w->store->session;

	s->only_replay = only_replay;
	expect_status(session_load(s, &s->manifest, s->manifest.top, NULL, out), 0, "loading");
	s->only_replay = false;
}

static void expect_bytes(const struct layer_bytes *got, const struct layer_bytes *want)
{
	assert_int_equal(!got, !want);
	if (!want)
		return;
	assert_int_equal(got->len, want->len);
	assert_memory_equal(got->bytes, want->bytes, want->len);
}

static void expect_ranges(const struct ranges *got, const struct ranges *want)
{
	assert_int_equal(got->n, want->n);
	assert_int_equal(got->bytes, want->bytes);
	for (size_t i = 0; i < want->n; i++)
		assert_memory_equal(&got->list[i], &want->list[i], sizeof(want->list[i]));
}

static void expect_part(const struct layer_part *got, const struct layer_part *want)
{
	assert_int_equal(!got, !want);
	if (!want)
		return;
	assert_int_equal(got->below, want->below);
	assert_int_equal(got->cap, want->cap);
	expect_ranges(&got->here, &want->here);
	expect_ranges(&got->fresh, &want->fresh);
}

static void expect_attr(const struct inode *got, const struct inode *want)
{
	expect_same_inode(got, want);
	assert_int_equal(got->floor, want->floor);
	assert_int_equal(got->below, want->below);
	assert_int_equal(got->content_layer, want->content_layer);
	assert_int_equal(got->dirty, want->dirty);
}

static void expect_inode(struct map_node *node, void *arg)
{
	const struct layer_inode *want = (const struct layer_inode *)node;
	const struct layer_inode *got = layer_inode(arg, want->attr.ino);

	assert_non_null(got);
	expect_attr(&got->attr, &want->attr);
	expect_bytes(got->target, want->target);
	expect_bytes(got->xattrs, want->xattrs);
	expect_part(got->part, want->part);
}

static void expect_dir(struct map_node *node, void *arg)
{
	const struct layer_dir *want = (const struct layer_dir *)node;
	const struct layer_dir *got = layer_dir(arg, want->ino);
	size_t at = 0;

	assert_non_null(got);
	assert_int_equal(got->live, want->live);
	for (size_t i = 0; i < want->n; i++) {
		const struct layer_entry *entry = want->slots[i].entry, *found;

		if (!entry)
			continue;
		found = got->slots[at++].entry;
		assert_int_equal(found->ino, entry->ino);
		assert_int_equal(found->cookie, entry->cookie);
		assert_int_equal(found->len, entry->len);
		assert_memory_equal(found->name, entry->name, entry->len);
		assert_ptr_equal(layer_dir_find(got, entry->node.hash, entry->name, entry->len), found);
	}
	assert_int_equal(got->n, at);
}

static void expect_sums(const struct layer *got, const struct layer *want)
{
	assert_int_equal(layer_changes(got), layer_changes(want));
	assert_int_equal(layer_n_inodes(got), layer_n_inodes(want));
	assert_int_equal(got->ino_end, want->ino_end);
	assert_int_equal(got->n_tombstones, want->n_tombstones);
	assert_int_equal(got->n_unsettled, want->n_unsettled);
	assert_int_equal(got->owed, want->owed);
	assert_int_equal(got->bytes, want->bytes);
	assert_int_equal(got->blocks, want->blocks);
	assert_int_equal(got->made, want->made);
	assert_true(got->sealed);
}

static void count(struct map_node *node, void *arg)
{
	++*(uint64_t *)arg;
}

/* And nothing more. */
static void expect_numbers_of_none(const struct layer *got, const struct layer *want)
{
	uint64_t inodes = 0, dirs = 0, wanted = 0;

	for (uint64_t ino = 0; ino < want->ino_end + 10; ino++) {
		assert_int_equal(!layer_inode(got, ino), !layer_inode(want, ino));
		assert_int_equal(!layer_dir(got, ino), !layer_dir(want, ino));
	}
	layer_each_inode(got, count, &inodes);
	assert_int_equal(inodes, layer_n_inodes(want));
	layer_each_dir(got, count, &dirs);
	layer_each_dir(want, count, &wanted);
	assert_int_equal(dirs, wanted);
}

void tabled_expect_same(struct world *w)
{
	struct stack mapped, replayed;

	tabled_load(w, false, &mapped);
	tabled_load(w, true, &replayed);
	assert_int_equal(mapped.n, replayed.n);
	for (unsigned int i = 0; i + 1 < mapped.n; i++) {
		assert_non_null(mapped.layers[i]->table);
		assert_null(replayed.layers[i]->table);
		expect_sums(mapped.layers[i], replayed.layers[i]);
		layer_each_inode(replayed.layers[i], expect_inode, mapped.layers[i]);
		layer_each_dir(replayed.layers[i], expect_dir, mapped.layers[i]);
		expect_numbers_of_none(mapped.layers[i], replayed.layers[i]);
	}
	assert_null(stack_top(&mapped)->table);
	session_unload(&mapped, NULL);
	session_unload(&replayed, NULL);
}

/* Of layers as they are replayed: one that was written to has not the inodes any more that were let go of. */
void tabled_save(struct world *w)
{
	w->closed = 1;
	world_reopen(w);
	session_save_tables(&w->store->session);
}

/* As whoever wants to do harm would. */
void tabled_make_sums_right(unsigned char *table, size_t len)
{
	struct disk_table_header *h = (struct disk_table_header *)table;

	h->body = le64(checksum64(h + 1, len - sizeof(*h), from_le64(h->journal)));
	h->checksum = le64(checksum64(h, offsetof(struct disk_table_header, checksum), 0));
}

/* What comes into memory is in order: `last` is the number before. */
static void touch_inode(struct map_node *node, void *arg)
{
	uint64_t *last = arg;

	assert_true(((const struct layer_inode *)node)->attr.ino > *last);
	*last = ((const struct layer_inode *)node)->attr.ino;
}

static void touch_dir(struct map_node *node, void *arg)
{
	const struct layer_dir *dir = (const struct layer_dir *)node;
	uint64_t *last = arg;
	uint64_t cookie = 0;

	assert_true(dir->ino > *last);
	*last = dir->ino;
	for (size_t i = 0; i < dir->n; i++) {
		assert_true(dir->slots[i].entry->cookie > cookie && dir->slots[i].entry->len > 0);
		cookie = dir->slots[i].entry->cookie;
	}
}

void tabled_touch(const struct layer *l)
{
	uint64_t last = 0;

	layer_each_inode(l, touch_inode, &last);
	last = 0;
	layer_each_dir(l, touch_dir, &last);
}
