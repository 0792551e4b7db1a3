/*
 * unit_table: promises of layer_table: a mapped layer is the replayed one, and what is no right table is none.
 * Invariant: the journals are whole, so that there is a state to compare with.
 * Called by meson test.
 */
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check_table.h"
#include "checksum.h"
#include "format.h"
#include "layer.h"
#include "unit.h"
#include "unit_dump.h"
#include "unit_inode.h"
#include "unit_op.h"

enum { ROUNDS = 4, OPS = 400, NAMES = 12, MANY = 3000, LARGE = 4 * WORLD_COPY_UNIT + 100 };

static void fill_base(int basefd)
{
	static char large[LARGE];

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

static int setup(void **state)
{
	*state = world_new(fill_base);
	return 0;
}

static void make_name(struct unit_random *random, char name[32])
{
	unsigned long long a = unit_random(random, NAMES), b = unit_random(random, NAMES);

	if (unit_random(random, 2))
		snprintf(name, 32, "n%llu", a);
	else
		snprintf(name, 32, "n2/%c%llu", unit_random(random, 3) ? 'n' : 'b', b);
}

/* Any operations; most of them come to something. */
static void change(struct world *w, struct unit_random *random, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		char a[32], b[32];
		struct op op = {.kind = (enum op_kind)unit_random(random, OP_KINDS), .a = a, .b = b};

		make_name(random, a);
		make_name(random, b);
		op.number = op.kind == OP_RENAME ? 0 : unit_random(random, 512);
		if (op.kind == OP_ALLOCATE)
			op.number = 0;
		op.offset = unit_random(random, LARGE);
		op.len = unit_random(random, 3000) + 1;
		op_tree(w, &op);
	}
}

/* The session's layers as they are on disk, loaded anew: mapped where that can be, or all replayed. */
static void load(struct world *w, bool only_replay, struct stack *out)
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

static void expect_same_layers(struct world *w)
{
	struct stack mapped, replayed;

	load(w, false, &mapped);
	load(w, true, &replayed);
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
static void save_replayed(struct world *w)
{
	w->closed = 1;
	world_reopen(w);
	session_save_tables(&w->store->session);
}

static void a_mapped_layer_is_the_replayed_one(void **state)
{
	struct world *w = *state;
	struct unit_random random = {.state = 7};

	for (unsigned int round = 0; round < ROUNDS; round++) {
		char name[8], *seen;

		snprintf(name, sizeof(name), "s%u", round);
		change(w, &random, OPS);
		world_snapshot(w, name);
		seen = dump_world(w, DUMP_ALL);
		save_replayed(w);
		expect_same_layers(w);
		w->closed = 0;
		world_reopen(w);
		for (unsigned int i = 0; i <= round; i++)
			assert_non_null(w->store->session.stack.layers[i]->table);
		dump_expect_world(w, DUMP_ALL, seen, "mapped");
		free(seen);
	}
}

/* One small sealed layer, whose table is on disk: its path. */
static const char *small_layer(struct world *w)
{
	const struct op ops[] = {
		{OP_MKDIR, "new", NULL, 0, 0, 0},    {OP_SYMLINK, "new/link", "target", 0, 0, 0},
		{OP_SETXATTR, "n1", NULL, 1, 0, 10}, {OP_WRITE, "n0", NULL, 1, WORLD_COPY_UNIT, 10},
		{OP_UNLINK, "n2/b1", NULL, 0, 0, 0}, {OP_RENAME, "n2/b2", "new/b2", 0, 0, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		expect_status(op_tree(w, &ops[i]), 0, "step %zu", i);
	world_snapshot(w, "s");
	save_replayed(w);
	expect_same_layers(w);
	return "session/layers/1/table";
}

static bool is_mapped(struct world *w)
{
	struct stack stack;
	bool yes;

	load(w, false, &stack);
	yes = stack.layers[0]->table;
	session_unload(&stack, NULL);
	return yes;
}

static void a_table_with_a_flipped_bit_or_cut_short_is_none(void **state)
{
	struct world *w = *state;
	const char *path = small_layer(w);
	size_t len;
	unsigned char *table = place_get(w->place.fd, path, &len);

	for (size_t i = 0; i < len; i++) {
		table[i] ^= (unsigned char)(1 << i % 8);
		place_put(w->place.fd, path, table, len);
		table[i] ^= (unsigned char)(1 << i % 8);
		assert_false(is_mapped(w));
		place_put(w->place.fd, path, table, i);
		assert_false(is_mapped(w));
	}
	place_put(w->place.fd, path, table, len);
	assert_true(is_mapped(w));
	assert_int_equal(unlinkat(w->place.fd, path, 0), 0);
	assert_false(is_mapped(w));
	free(table);
}

/* As whoever wants to do harm would. */
static void make_checksums_right(unsigned char *table, size_t len)
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

static void touch(const struct layer *l)
{
	uint64_t last = 0;

	layer_each_inode(l, touch_inode, &last);
	last = 0;
	layer_each_dir(l, touch_dir, &last);
}

static void a_table_that_points_anywhere_reads_nothing_outside_itself(void **state)
{
	struct world *w = *state;
	const char *path = small_layer(w);
	size_t len;
	unsigned char *table = place_get(w->place.fd, path, &len);

	for (size_t i = offsetof(struct disk_table_header, n_inodes); i < len; i++) {
		const unsigned char was = table[i], others[] = {(unsigned char)(was + 1), 0xff, 0};

		for (size_t turn = 0; turn < ARRAY_LEN(others); turn++) {
			struct stack stack;

			table[i] = others[turn];
			make_checksums_right(table, len);
			place_put(w->place.fd, path, table, len);
			load(w, false, &stack);
			if (stack.layers[0]->table)
				touch(stack.layers[0]);
			session_unload(&stack, NULL);
			table[i] = was;
		}
	}
	free(table);
}

static void a_table_of_anything_else_is_none(void **state)
{
	static const size_t fields[] = {
		offsetof(struct disk_table_header, magic),       offsetof(struct disk_table_header, version),
		offsetof(struct disk_table_header, layer),       offsetof(struct disk_table_header, first_ino),
		offsetof(struct disk_table_header, journal_len), offsetof(struct disk_table_header, journal),
		offsetof(struct disk_table_header, under),
	};
	struct world *w = *state;
	const char *path = small_layer(w);
	size_t len;
	unsigned char *table = place_get(w->place.fd, path, &len);

	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		table[fields[i]]++;
		make_checksums_right(table, len);
		place_put(w->place.fd, path, table, len);
		assert_false(is_mapped(w));
		table[fields[i]]--;
	}
	make_checksums_right(table, len);
	place_put(w->place.fd, path, table, len);
	assert_true(is_mapped(w));
	free(table);
}

static size_t findings_of(struct world *w)
{
	struct findings findings = {0};
	struct layer_table_key key = {0};
	struct stack replayed;
	size_t n;

	load(w, true, &replayed);
	key.sealed = manifest_layer(&w->store->session.manifest, 1)->sealed;
	expect_status(check_table(&findings, w->session, replayed.layers[0], &key), 0, "checking");
	session_unload(&replayed, NULL);
	for (size_t i = 0; i < findings.n; i++)
		assert_string_equal(findings.list[i].shown.kind, "table");
	n = findings.n;
	findings_fini(&findings);
	return n;
}

#define INODE(member) (sizeof(struct disk_table_header) + offsetof(struct disk_table_inode, member))

static void a_check_sees_a_table_that_is_whole_and_not_true(void **state)
{
	struct world *w = *state;
	const char *path = small_layer(w);
	size_t len;
	unsigned char *table = place_get(w->place.fd, path, &len);
	const struct disk_table_header *h = (const struct disk_table_header *)table;
	size_t dirs = sizeof(*h) + from_le64(h->n_inodes) * sizeof(struct disk_table_inode);
	size_t entries = dirs + from_le64(h->n_dirs) * sizeof(struct disk_table_dir);
	size_t bytes = entries + from_le64(h->n_entries) * sizeof(struct disk_table_entry);
	const size_t lies[] = {
		INODE(mode),
		INODE(uid),
		INODE(gid),
		INODE(nlink),
		INODE(rdev),
		INODE(size),
		INODE(atime),
		INODE(mtime),
		INODE(ctime),
		INODE(parent),
		INODE(below),
		INODE(content_layer),
		dirs,
		entries + offsetof(struct disk_table_entry, ino),
		entries + offsetof(struct disk_table_entry, cookie),
		entries + offsetof(struct disk_table_entry, hash),
		bytes,
		len - 1,
	};

	assert_int_equal(findings_of(w), 0);
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		table[lies[i]]++;
		make_checksums_right(table, len);
		place_put(w->place.fd, path, table, len);
		if (findings_of(w) != 1)
			fail_msg("byte %zu of %zu, lie %zu: not found", lies[i], len, i);
		table[lies[i]]--;
	}
	make_checksums_right(table, len);
	table[len - 1]++; /* no mount believes it now */
	place_put(w->place.fd, path, table, len);
	assert_int_equal(findings_of(w), 0);
	free(table);
}

static void a_directory_of_many_names_is_mapped(void **state)
{
	struct world *w = *state;
	struct stack stack;

	assert_int_equal(op_tree(w, &(struct op){OP_MKDIR, "new", NULL, 0, 0, 0}), 0);
	for (unsigned int i = 0; i < MANY; i++) {
		char name[32];

		snprintf(name, sizeof(name), "new/%u", i);
		assert_int_equal(op_tree(w, &(struct op){OP_LINK, "n1", name, 0, 0, 0}), 0);
	}
	world_snapshot(w, "s");
	session_save_tables(&w->store->session);
	load(w, false, &stack);
	assert_non_null(stack.layers[0]->table);
	touch(stack.layers[0]);
	assert_int_equal(layer_dir(stack.layers[0], world_ino(w, "new"))->n, MANY);
	session_unload(&stack, NULL);
	expect_same_layers(w);
}

/* A row has the number of the layer whose content it shows, and that one is joined with another while nobody writes a new table. */
static void a_table_on_layers_that_were_joined_is_none(void **state)
{
	static const struct op steps[] = {
		{OP_WRITE, "n1", NULL, 1, 0, 3000}, {OP_WRITE, "n0", NULL, 2, WORLD_COPY_UNIT, 10},
		{OP_MKDIR, "new", NULL, 0, 0, 0},   {OP_CHMOD, "n1", NULL, 0711, 0, 0},
		{OP_CHMOD, "n0", NULL, 0711, 0, 0},
	};
	static const char *const names[] = {NULL, "a", "b", NULL, "c"}; /* after each step */
	struct world *w = *state;
	char *seen;

	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		assert_int_equal(op_tree(w, &steps[i]), 0);
		if (names[i])
			world_snapshot(w, names[i]);
	}
	seen = dump_world(w, DUMP_ALL);
	save_replayed(w);
	world_delete(w, "a");
	for (unsigned int turn = 0; turn < 3; turn++) {
		w->closed = turn; /* without new tables, and with them */
		world_reopen(w);
		dump_expect_world(w, DUMP_ALL, seen, "on joined layers");
	}
	free(seen);
}

/* Whose journal is damaged where nobody looks who maps it: what would be joined is not whole. */
static void layers_are_not_joined_by_their_tables(void **state)
{
	static const char *const names[] = {"s", "t"};
	struct world *w = *state;
	unsigned char *journal;
	size_t len;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		for (unsigned int mode = 0; mode < MANY; mode++)
			assert_int_equal(op_tree(w, &(struct op){OP_CHMOD, "n1", NULL, 0600 + mode % 8, 0, 0}), 0);
		world_snapshot(w, names[i]);
	}
	save_replayed(w);
	world_delete(w, "s");
	world_close(w);
	journal = place_get(w->place.fd, "session/layers/1/journal", &len);
	journal[len / 4] ^= 1;
	place_put(w->place.fd, "session/layers/1/journal", journal, len);
	expect_status(world_try_open(w), -EUCLEAN, "joining a damaged layer");
	journal[len / 4] ^= 1;
	place_put(w->place.fd, "session/layers/1/journal", journal, len);
	world_open(w);
	assert_int_equal(world_inode(w, "n1").mode & 0777, 0600 + (MANY - 1) % 8);
	free(journal);
}

static void only_large_sealed_layers_get_a_table(void **state)
{
	struct world *w = *state;

	assert_int_equal(op_tree(w, &(struct op){OP_CHMOD, "n1", NULL, 0711, 0, 0}), 0);
	world_snapshot(w, "s");
	w->store->session.table_min = 2;
	session_save_tables(&w->store->session);
	assert_false(place_has(w->place.fd, "session/layers/1/table"));
	w->store->session.table_min = 1;
	assert_int_equal(op_tree(w, &(struct op){OP_CHMOD, "n1", NULL, 0700, 0, 0}), 0);
	session_save_tables(&w->store->session);
	assert_true(place_has(w->place.fd, "session/layers/1/table"));
	assert_false(place_has(w->place.fd, "session/layers/2/table"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_mapped_layer_is_the_replayed_one, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_table_with_a_flipped_bit_or_cut_short_is_none, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_table_that_points_anywhere_reads_nothing_outside_itself, setup,
	                                        world_teardown),
		cmocka_unit_test_setup_teardown(a_table_of_anything_else_is_none, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_check_sees_a_table_that_is_whole_and_not_true, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_directory_of_many_names_is_mapped, setup, world_teardown),
		cmocka_unit_test_setup_teardown(layers_are_not_joined_by_their_tables, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_table_on_layers_that_were_joined_is_none, setup, world_teardown),
		cmocka_unit_test_setup_teardown(only_large_sealed_layers_get_a_table, setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
