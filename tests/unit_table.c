/*
 * unit_table: promises of layer_table: a mapped layer is the replayed one.
 * Invariant: the journals are whole, so that there is a state to compare with.
 * Called by meson test.
 */
#include "format.h"
#include "unit.h"
#include "unit_dump.h"
#include "unit_op.h"
#include "unit_tabled.h"

enum { ROUNDS = 4, OPS = 400, NAMES = 12, MANY = 3000 };

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
		op.offset = unit_random(random, TABLED_LARGE);
		op.len = unit_random(random, 3000) + 1;
		op_tree(w, &op);
	}
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
		tabled_save(w);
		tabled_expect_same(w);
		w->closed = 0;
		world_reopen(w);
		for (unsigned int i = 0; i <= round; i++)
			assert_non_null(w->store->session.stack.layers[i]->table);
		dump_expect_world(w, DUMP_ALL, seen, "mapped");
		free(seen);
	}
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
	tabled_load(w, false, &stack);
	assert_non_null(stack.layers[0]->table);
	tabled_touch(stack.layers[0]);
	assert_int_equal(layer_dir(stack.layers[0], world_ino(w, "new"))->n, MANY);
	session_unload(&stack, NULL);
	tabled_expect_same(w);
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
	tabled_save(w);
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
	tabled_save(w);
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
		cmocka_unit_test_setup_teardown(a_mapped_layer_is_the_replayed_one, tabled_setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_directory_of_many_names_is_mapped, tabled_setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_table_on_layers_that_were_joined_is_none, tabled_setup,
	                                        world_teardown),
		cmocka_unit_test_setup_teardown(layers_are_not_joined_by_their_tables, tabled_setup, world_teardown),
		cmocka_unit_test_setup_teardown(only_large_sealed_layers_get_a_table, tabled_setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
