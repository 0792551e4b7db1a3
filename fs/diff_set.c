/*
 * diff_set: owns nodes and slots.
 * Invariant: layers that both states stand on are not looked at.
 * Called by diff_match and diff.
 */
#include "diff_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"

struct diff_node *diff_set_node(const struct diff_set *set, uint64_t ino)
{
	struct map_node *node = map_first(&set->nodes, map_hash_u64(ino));

	while (node && ((struct diff_node *)node)->ino != ino)
		node = map_next(node);
	return (struct diff_node *)node;
}

/* The inode in one state: true when it has a name there. */
static int look(const struct stack *stack, uint64_t ino, struct inode *out, bool *there_out)
{
	int r = stack_inode(stack, ino, out);

	*there_out = r == 0 && out->nlink > 0;
	return r == -ESTALE ? 0 : r;
}

static struct diff_node *add_node(struct diff_set *set, uint64_t ino)
{
	struct diff_node *node = diff_set_node(set, ino);
	int r;

	if (node || set->r < 0)
		return node;
	r = map_reserve(&set->nodes, 1);
	node = r == 0 ? calloc(1, sizeof(*node)) : NULL;
	if (!node) {
		set->r = -ENOMEM;
		return NULL;
	}
	node->ino = ino;
	map_add(&set->nodes, &node->node, map_hash_u64(ino));
	r = look(&set->from->session.stack, ino, &node->a, &node->in_a);
	if (r == 0)
		r = look(&set->to->session.stack, ino, &node->b, &node->in_b);
	if (r < 0)
		set->r = r;
	return node;
}

static void add_inode(struct map_node *node, void *arg)
{
	add_node(arg, ((struct layer_inode *)node)->attr.ino);
}

static bool known(const struct diff_set *set, uint64_t hash, uint64_t parent, const struct layer_entry *e)
{
	const struct map_node *node = map_first(&set->slots, hash);

	for (; node; node = map_next(node)) {
		const struct diff_slot *slot = (const struct diff_slot *)node;

		if (slot->parent == parent && slot->len == e->len && memcmp(slot->name, e->name, e->len) == 0)
			return true;
	}
	return false;
}

/* Puts the slot at the inodes whose name it is or was. */
static int attach(struct diff_set *set, struct diff_slot *slot)
{
	struct diff_node *a = slot->a ? add_node(set, slot->a) : NULL;
	struct diff_node *b = slot->b ? add_node(set, slot->b) : NULL;
	int r = set->r;

	if (r == 0 && a)
		r = names_path(set->from_names, slot->parent, slot->name, slot->len, &slot->path_a);
	if (r == 0 && b)
		r = names_path(set->to_names, slot->parent, slot->name, slot->len, &slot->path_b);
	if (r == 0 && a) {
		slot->next_a = a->gone;
		a->gone = slot;
	}
	if (r == 0 && b) {
		slot->next_b = b->come;
		b->come = slot;
	}
	return r;
}

static void add_slot(uint64_t parent, const struct layer_entry *e, void *arg)
{
	struct diff_set *set = arg;
	uint64_t hash = checksum64(e->name, e->len, parent);
	struct diff_slot *slot;
	uint64_t a = 0, b = 0;
	int r = set->r;

	if (r < 0 || known(set, hash, parent, e))
		return;
	r = names_lookup(&set->from->session.stack, parent, e->name, e->len, &a);
	if (r == 0)
		r = names_lookup(&set->to->session.stack, parent, e->name, e->len, &b);
	if (r == 0)
		r = map_reserve(&set->slots, 1);
	slot = r == 0 && a != b ? calloc(1, sizeof(*slot)) : NULL;
	if (slot) {
		*slot = (struct diff_slot){.parent = parent, .name = e->name, .len = e->len, .a = a, .b = b};
		map_add(&set->slots, &slot->node, hash);
		r = attach(set, slot);
	} else if (r == 0 && a != b) {
		r = -ENOMEM;
	}
	if (r < 0)
		set->r = r;
}

/* What the layers from `common` up say. */
static void add_layers(struct diff_set *set, const struct stack *stack, unsigned int common)
{
	for (unsigned int i = common; i < stack->n; i++) {
		layer_each_inode(stack->layers[i], add_inode, set);
		layer_each_entry(stack->layers[i], add_slot, set);
	}
}

int diff_set_init(struct diff_set *set, struct state *from, struct state *to)
{
	const struct stack *a = &from->session.stack, *b = &to->session.stack;
	unsigned int common = 0;
	int r;

	*set = (struct diff_set){.from = from, .to = to};
	while (common < a->n && common < b->n && a->layers[common] == b->layers[common])
		common++;
	r = names_new(&from->session, &set->from_names);
	if (r == 0)
		r = names_new(&to->session, &set->to_names);
	if (r == 0) {
		add_layers(set, a, common);
		add_layers(set, b, common);
		r = set->r;
	}
	if (r < 0)
		diff_set_fini(set);
	return r;
}

static void free_slot(struct map_node *node, void *arg)
{
	struct diff_slot *slot = (struct diff_slot *)node;

	free(slot->path_a);
	free(slot->path_b);
	free(slot);
}

static void free_node(struct map_node *node, void *arg)
{
	free(((struct diff_node *)node)->first_b);
	free(node);
}

void diff_set_fini(struct diff_set *set)
{
	map_each(&set->slots, free_slot, NULL);
	map_each(&set->nodes, free_node, NULL);
	map_fini(&set->slots);
	map_fini(&set->nodes);
	names_free(set->from_names);
	names_free(set->to_names);
}
