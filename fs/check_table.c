/*
 * check_table: holds a layer that was mapped against the same one replayed.
 * Invariant: a table that no mount would believe counts as missing. The journal is right.
 * Called by check_content.
 */
#include "check_table.h"

#include <stdio.h>
#include <string.h>

#include "cleanup.h"

struct compare {
	const struct layer *replayed, *mapped;
	bool differ;
};

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_bytes(const struct layer_bytes *a, const struct layer_bytes *b)
{
	if (!a || !b)
		return a == b;
	return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

static bool same_parts(const struct layer_part *a, const struct layer_part *b)
{
	if (!a || !b)
		return a == b;
	return a->below == b->below && a->cap == b->cap && a->here.n == b->here.n &&
	       (a->here.n == 0 || memcmp(a->here.list, b->here.list, a->here.n * sizeof(*a->here.list)) == 0);
}

static bool same_inode(const struct layer_inode *a, const struct layer_inode *b)
{
	const struct inode *x = &a->attr, *y = &b->attr;

	return x->mode == y->mode && x->uid == y->uid && x->gid == y->gid && x->nlink == y->nlink &&
	       x->rdev == y->rdev && x->size == y->size && x->parent == y->parent && x->below == y->below &&
	       x->content_layer == y->content_layer && same_time(x->atime, y->atime) && same_time(x->mtime, y->mtime) &&
	       same_time(x->ctime, y->ctime) && same_bytes(a->target, b->target) && same_bytes(a->xattrs, b->xattrs) &&
	       same_parts(a->part, b->part);
}

static void compare_inode(struct map_node *node, void *arg)
{
	const struct layer_inode *want = (const struct layer_inode *)node;
	struct compare *c = arg;
	const struct layer_inode *got = layer_inode(c->mapped, want->attr.ino);

	if (got ? !same_inode(got, want) : want->attr.nlink > 0)
		c->differ = true;
}

static void expect_inode(struct map_node *node, void *arg)
{
	struct compare *c = arg;

	if (!layer_inode(c->replayed, ((const struct layer_inode *)node)->attr.ino))
		c->differ = true;
}

/* Every entry of one is in the other, in the same place. */
static bool has_all(const struct layer_dir *all, const struct layer_dir *of)
{
	for (size_t i = 0; i < of->n; i++) {
		const struct layer_entry *want = of->slots[i].entry;
		const struct layer_entry *got =
			want ? layer_dir_find(all, layer_dir_hash(want->name, want->len), want->name, want->len) : NULL;

		if (want && (!got || got->ino != want->ino || got->cookie != want->cookie))
			return false;
	}
	return true;
}

/* What has been let go of is not in the table of the daemon that did so, nor are its names. */
static bool may_be_missing(const struct layer *replayed, uint64_t ino)
{
	const struct layer_inode *inode = layer_inode(replayed, ino);

	return inode && inode->attr.nlink == 0;
}

static void compare_dir(struct map_node *node, void *arg)
{
	const struct layer_dir *want = (const struct layer_dir *)node;
	struct compare *c = arg;
	const struct layer_dir *got = layer_dir(c->mapped, want->ino);

	if (got ? !has_all(got, want) : want->live > 0 && !may_be_missing(c->replayed, want->ino))
		c->differ = true;
}

static void expect_dir(struct map_node *node, void *arg)
{
	const struct layer_dir *got = (const struct layer_dir *)node;
	struct compare *c = arg;
	const struct layer_dir *want = layer_dir(c->replayed, got->ino);

	if (!want || !has_all(want, got))
		c->differ = true;
}

/* What `--size` and `--inodes` count. The other sums also count what has been let go of. */
static bool same_sums(const struct layer *replayed, const struct layer *mapped)
{
	return mapped->bytes == replayed->bytes && mapped->blocks == replayed->blocks &&
	       mapped->made == replayed->made && mapped->ino_end >= replayed->ino_end;
}

static bool differ(const struct layer *replayed, const struct layer *mapped)
{
	struct compare c = {.replayed = replayed, .mapped = mapped, .differ = !same_sums(replayed, mapped)};

	layer_each_inode(replayed, compare_inode, &c);
	layer_each_inode(mapped, expect_inode, &c);
	layer_each_dir(replayed, compare_dir, &c);
	layer_each_dir(mapped, expect_dir, &c);
	return c.differ;
}

int check_table(struct findings *findings, const char *label, const struct layer *replayed,
                const struct layer_table_key *key)
{
	const struct log silent = {0};
	struct layer *mapped;
	char name[32];
	int r = layer_open(replayed->layersfd, replayed->id, false, replayed->first_ino, label, &silent, &mapped);

	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "layers/%u/table", replayed->id);
	if (layer_load_table(mapped, key) == 0 && differ(replayed, mapped))
		findings_file(findings, "table", label, name,
		              "tells something else than the journal beside it: mounts show what it tells");
	layer_free(mapped);
	return 0;
}
