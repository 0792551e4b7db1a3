/*
 * merge: joins two layers by putting one journal behind the other.
 * Invariant: replaying the joined journal gives what replaying the two gave; until the manifest names the
 * joined layer, both stay.
 * Called by store when a session is opened, and after a snapshot was deleted.
 */
#include "merge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "content.h"
#include "format.h"
#include "io.h"

/* The layer that stands alone on `id`, 0 when there is none or more than one. */
static uint32_t only_child(const struct manifest *m, uint32_t id)
{
	uint32_t child = 0;

	for (size_t i = 0; i < m->n_layers; i++) {
		if (m->layers[i].parent != id)
			continue;
		if (child)
			return 0;
		child = m->layers[i].id;
	}
	return child;
}

static bool has_name(const struct manifest *m, uint32_t id)
{
	for (size_t i = 0; i < m->n_snapshots; i++) {
		if (m->snapshots[i].layer == id)
			return true;
	}
	return false;
}

/* A layer to join with the one on it: its child, 0 when there is none. */
static uint32_t find_pair(const struct manifest *m)
{
	for (size_t i = 0; i < m->n_layers; i++) {
		uint32_t id = m->layers[i].id;

		if (m->layers[i].sealed && !has_name(m, id) && only_child(m, id))
			return only_child(m, id);
	}
	return 0;
}

struct links {
	int layersfd;
	uint32_t to;
	const struct layer *from;
	const struct layer *above; /* the layer whose content hides from's, or NULL */
	const struct layer *lower; /* the layer whose content from's shows in part, or NULL */
	int result;
};

/*
 * Of a file that is in part in the layer above, what it needs of the lower one goes into the file that it shares with the joined
 * layer: there these are bytes that the layer above does not show. Replay says that the joined file has the parts of both.
 */
static int join_parts(const struct links *links, const struct layer_inode *upper, const struct layer_inode *lower,
                      int to)
{
	cleanup_fd int from = content_open(links->layersfd, links->lower->id, upper->attr.ino, O_RDONLY);
	uint64_t at = 0;
	int r = 0;

	if (from < 0)
		return from == -ENOENT && lower->attr.nlink == 0 ? 0 : from;
	while (r == 0 && at < upper->attr.below) {
		bool is_above, is_lower = true;
		uint64_t end = ranges_end(&upper->part->here, at, &is_above);
		uint64_t lower_end = UINT64_MAX;

		if (at < lower->attr.below)
			lower_end = ranges_end(&lower->part->here, at, &is_lower);
		if (at < lower->attr.below && lower_end > lower->attr.below)
			lower_end = lower->attr.below;
		if (end > lower_end)
			end = lower_end;
		if (end > upper->attr.below)
			end = upper->attr.below;
		if (!is_above && is_lower)
			r = io_copy_range(from, at, to, at, end - at);
		at = end;
	}
	return r;
}

static int join_content(const struct links *links, const struct layer_inode *upper)
{
	const struct layer_inode *lower = links->lower ? layer_inode(links->lower, upper->attr.ino) : NULL;
	cleanup_fd int to = -1;

	if (!upper->attr.below || !lower || !layer_has_content(links->lower, &lower->attr))
		return 0;
	to = content_open(links->layersfd, links->to, upper->attr.ino, O_RDWR);
	return to < 0 ? to : join_parts(links, upper, lower, to);
}

static void link_content(struct map_node *node, void *arg)
{
	const struct inode *inode = &((const struct layer_inode *)node)->attr;
	struct links *links = arg;
	const struct layer_inode *hiding;

	if (links->result < 0 || !S_ISREG(inode->mode) || inode->content_layer != links->from->id)
		return;
	hiding = links->above ? layer_inode(links->above, inode->ino) : NULL;
	if (hiding && hiding->attr.content_layer == links->above->id)
		return;
	links->result = content_link(links->layersfd, links->from->id, links->to, inode->ino);
	if (links->result == -ENOENT && inode->nlink == 0)
		links->result = 0; /* it was let go of before the snapshot, and its bytes with it */
	else if (links->result == 0)
		links->result = join_content(links, (const struct layer_inode *)node);
}

/* Makes the joined layer's files: nothing in the manifest yet. */
static int join_files(struct session *s, const struct layer *lower, const struct layer *upper, uint32_t joined,
                      const struct manifest *m)
{
	struct links links = {.layersfd = s->layersfd, .to = joined, .from = lower, .above = upper};
	uint64_t upper_len = manifest_layer(m, upper->id)->sealed;
	int r = layer_create(s->layersfd, joined);

	if (r == 0)
		r = layer_append_journal(s->layersfd, joined, lower->id, manifest_layer(m, lower->id)->sealed);
	if (r == 0)
		r = layer_append_journal(s->layersfd, joined, upper->id,
		                         upper_len ? upper_len : journal_size(upper->journal));
	session_mark(s); /* bytes go into files that are in use, where only a sweep would find them */
	layer_each_inode(lower, link_content, &links);
	links.from = upper;
	links.above = NULL;
	links.lower = lower;
	layer_each_inode(upper, link_content, &links);
	return r < 0 ? r : links.result;
}

/* In the manifest, `joined` takes the place of both. */
static void replace_pair(struct manifest *m, uint32_t lower, uint32_t upper, uint32_t joined, uint64_t sealed)
{
	struct manifest_layer *gone = manifest_layer(m, lower);
	uint32_t parent = gone->parent;
	struct manifest_layer *ml;

	m->n_layers--;
	memmove(gone, gone + 1, (size_t)(m->layers + m->n_layers - gone) * sizeof(*gone));
	ml = manifest_layer(m, upper);
	ml->id = joined;
	ml->parent = parent;
	ml->sealed = sealed;
	for (size_t i = 0; i < m->n_layers; i++) {
		if (m->layers[i].parent == upper)
			m->layers[i].parent = joined;
	}
	for (size_t i = 0; i < m->n_snapshots; i++) {
		if (m->snapshots[i].layer == upper)
			m->snapshots[i].layer = joined;
	}
	if (m->top == upper)
		m->top = joined;
	m->next_layer = joined + 1;
}

/* Loads the joined layer as a proof that it can be, and takes its figures from there. */
static int prove(struct session *s, struct manifest *m, uint32_t joined)
{
	struct stack stack;
	struct manifest_layer *ml = manifest_layer(m, joined);
	int r = session_load(s, m, joined, NULL, &stack);

	if (r < 0)
		return r;
	if (ml->sealed) {
		ml->changes = layer_changes(stack_top(&stack));
		ml->bytes = stack_top(&stack)->bytes;
	}
	session_unload(&stack, NULL);
	return 0;
}

static int join(struct store *store, const struct stack *stack, struct manifest *m)
{
	struct session *s = &store->session;
	const struct layer *lower = stack->layers[stack->n - 2];
	const struct layer *upper = stack->layers[stack->n - 1];
	uint32_t joined = m->next_layer;
	uint64_t sealed = manifest_layer(m, upper->id)->sealed;
	int r = join_files(s, lower, upper, joined, m);

	if (r < 0)
		return r;
	if (sealed)
		sealed += manifest_layer(m, lower->id)->sealed - JOURNAL_HEADER_BYTES;
	replace_pair(m, lower->id, upper->id, joined, sealed);
	return prove(s, m, joined);
}

/* 1 when two layers became one, 0 when nothing was to be done or could be, -EUCLEAN. */
static int merge_one(struct store *store, uint32_t upper)
{
	struct session *s = &store->session;
	struct manifest m = {0};
	struct stack stack;
	int r;

	if (s->manifest.next_layer >= FORMAT_LAYERS_END)
		return 0;
	r = session_load(s, &s->manifest, upper, NULL, &stack);
	if (r < 0)
		return r;
	r = manifest_copy(&s->manifest, &m);
	if (r == 0)
		r = join(store, &stack, &m);
	if (r == 0)
		r = store_commit(store, &m, true);
	session_unload(&stack, NULL);
	if (r < 0)
		manifest_fini(&m);
	store_remove_dropped(s);
	s->n_dirty = 0; /* loading for a look is no opening */
	return r == 0;
}

int merge_layers(struct store *store)
{
	uint32_t upper;
	int r = 1;

	store->session.only_replay = true;
	while (r > 0 && (upper = find_pair(&store->session.manifest)) != 0)
		r = merge_one(store, upper);
	store->session.only_replay = false;
	return r < 0 ? r : 0;
}
