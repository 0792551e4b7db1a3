/*
 * unit_table_damage: promises of tables that are damaged, crafted or of something else: they are none, or do no harm.
 * Invariant: the journals are whole, so that there is a state to compare with.
 * Called by meson test.
 */
#include <stddef.h>
#include <unistd.h>

#include "check_table.h"
#include "format.h"
#include "unit.h"
#include "unit_op.h"
#include "unit_tabled.h"

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
	tabled_save(w);
	tabled_expect_same(w);
	return "session/layers/1/table";
}

static bool is_mapped(struct world *w)
{
	struct stack stack;
	bool yes;

	tabled_load(w, false, &stack);
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
			tabled_make_sums_right(table, len);
			place_put(w->place.fd, path, table, len);
			tabled_load(w, false, &stack);
			if (stack.layers[0]->table)
				tabled_touch(stack.layers[0]);
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
		tabled_make_sums_right(table, len);
		place_put(w->place.fd, path, table, len);
		assert_false(is_mapped(w));
		table[fields[i]]--;
	}
	tabled_make_sums_right(table, len);
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

	tabled_load(w, true, &replayed);
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
		offsetof(struct disk_table_header, content_bytes),
		offsetof(struct disk_table_header, blocks),
		offsetof(struct disk_table_header, made),
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
		tabled_make_sums_right(table, len);
		place_put(w->place.fd, path, table, len);
		if (findings_of(w) != 1)
			fail_msg("byte %zu of %zu, lie %zu: not found", lies[i], len, i);
		table[lies[i]]--;
	}
	tabled_make_sums_right(table, len);
	table[len - 1]++; /* no mount believes it now */
	place_put(w->place.fd, path, table, len);
	assert_int_equal(findings_of(w), 0);
	free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_table_with_a_flipped_bit_or_cut_short_is_none, tabled_setup,
	                                        world_teardown),
		cmocka_unit_test_setup_teardown(a_table_that_points_anywhere_reads_nothing_outside_itself, tabled_setup,
	                                        world_teardown),
		cmocka_unit_test_setup_teardown(a_table_of_anything_else_is_none, tabled_setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_check_sees_a_table_that_is_whole_and_not_true, tabled_setup,
	                                        world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
