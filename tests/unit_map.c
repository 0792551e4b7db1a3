/*
 * unit_map: promises of map and of pin, which is built on it.
 * Invariant: a model in plain arrays says what every answer must be.
 * Called by meson test.
 */
#include "map.h"

#include "pin.h"
#include "unit.h"

struct item {
	struct map_node node;
	unsigned int key;
	unsigned int visited;
};

enum { ITEMS = 3000 };

static struct item *find(const struct map *map, unsigned int key, uint64_t hash)
{
	for (struct map_node *node = map_first(map, hash); node; node = map_next(node)) {
		assert_true(node->hash == hash);
		if (((struct item *)node)->key == key)
			return (struct item *)node;
	}
	return NULL;
}

/* Several keys to one hash, so that chains of equal hashes are walked too. */
static uint64_t hash_of(unsigned int key)
{
	return map_hash_u64(key / 3);
}

static void a_map_finds_what_was_added_and_not_removed(void **state)
{
	struct item *items = calloc(ITEMS, sizeof(*items));
	struct map map = {0};

	assert_null(map_first(&map, 5));
	for (unsigned int i = 0; i < ITEMS; i++) {
		items[i].key = i;
		assert_int_equal(map_reserve(&map, 1), 0);
		map_add(&map, &items[i].node, hash_of(i));
	}
	assert_int_equal(map.n, ITEMS);
	for (unsigned int i = 0; i < ITEMS; i += 2)
		map_remove(&map, &items[i].node);
	for (unsigned int i = 0; i < ITEMS; i++)
		assert_ptr_equal(find(&map, i, hash_of(i)), i % 2 ? &items[i] : NULL);
	assert_int_equal(map.n, ITEMS / 2);
	assert_null(find(&map, ITEMS + 9, hash_of(ITEMS + 9)));
	map_fini(&map);
	free(items);
}

static void count_visit(struct map_node *node, void *arg)
{
	((struct item *)node)->visited++;
	++*(unsigned int *)arg;
}

static void each_visits_every_node_once(void **state)
{
	struct item items[100] = {{{0}, 0, 0}};
	struct map map = {0};
	unsigned int n = 0;

	assert_int_equal(map_reserve(&map, ARRAY_LEN(items)), 0);
	for (unsigned int i = 0; i < ARRAY_LEN(items); i++)
		map_add(&map, &items[i].node, i % 10);
	map_each(&map, count_visit, &n);
	assert_int_equal(n, ARRAY_LEN(items));
	for (unsigned int i = 0; i < ARRAY_LEN(items); i++)
		assert_int_equal(items[i].visited, 1);
	map_fini(&map);
}

static void reserve_covers_what_is_added_after_it(void **state)
{
	static struct item items[500];
	struct map map = {0};
	struct map_node **buckets;

	assert_int_equal(map_reserve(&map, ARRAY_LEN(items)), 0);
	buckets = map.buckets;
	for (unsigned int i = 0; i < ARRAY_LEN(items); i++)
		map_add(&map, &items[i].node, map_hash_u64(i));
	assert_ptr_equal(map.buckets, buckets);
	assert_true(map.n_buckets >= map.n);
	map_fini(&map);
}

static void pins_count_each_inode_by_itself(void **state)
{
	static const uint64_t inos[] = {1, 2, 127, 128, 129, 255, 256, UINT32_MAX, UINT64_MAX};
	struct pins pins = {.pages = {0}};

	for (size_t i = 0; i < ARRAY_LEN(inos); i++) {
		assert_int_equal(pin_count(&pins, inos[i]), 0);
		for (size_t n = 0; n <= i; n++)
			assert_int_equal(pin_get(&pins, inos[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(inos); i++)
		assert_int_equal(pin_count(&pins, inos[i]), i + 1);
	for (size_t i = 0; i < ARRAY_LEN(inos); i++) {
		if (i > 0)
			assert_int_equal(pin_put(&pins, inos[i], i), 0);
		assert_int_equal(pin_count(&pins, inos[i]), 1);
		assert_int_equal(pin_put(&pins, inos[i], 1), 1);
		assert_int_equal(pin_count(&pins, inos[i]), 0);
	}
	assert_int_equal(pins.pages.n, 0);
	pin_fini(&pins);
}

static void a_hold_that_is_not_there_is_not_let_go(void **state)
{
	struct pins pins = {.pages = {0}};

	assert_int_equal(pin_put(&pins, 7, 1), 0);
	assert_int_equal(pin_get(&pins, 7), 0);
	assert_int_equal(pin_put(&pins, 8, 1), 0);
	assert_int_equal(pin_put(&pins, 7, 0), 0);
	assert_int_equal(pin_put(&pins, 7, 1000), 1);
	assert_int_equal(pin_put(&pins, 7, 1), 0);
	assert_int_equal(pin_get(&pins, 9), 0); /* freed by pin_fini() */
	pin_fini(&pins);
}

static void a_held_inode_is_another_one_when_renewed_until_it_is_let_go(void **state)
{
	struct pins pins = {.pages = {0}};

	assert_int_equal(pin_generation(&pins, 7), 0);
	assert_int_equal(pin_get(&pins, 7), 0);
	assert_int_equal(pin_renew(&pins, 7), 0);
	assert_int_equal(pin_generation(&pins, 7), 1);
	assert_int_equal(pin_get(&pins, 7), 0);
	assert_int_equal(pin_renew(&pins, 7), 0);
	assert_int_equal(pin_generation(&pins, 7), 2);
	assert_int_equal(pin_generation(&pins, 8), 0);
	assert_int_equal(pin_put(&pins, 7, 1), 0);
	assert_int_equal(pin_generation(&pins, 7), 2);
	assert_int_equal(pin_put(&pins, 7, 1), 1);
	assert_int_equal(pin_generation(&pins, 7), 0);
	assert_int_equal(pin_get(&pins, 9), 0);
	assert_int_equal(pin_renew(&pins, 9), 0); /* freed by pin_fini() */
	pin_fini(&pins);
}

static void numbers_at_any_distance_spread_and_neighbours_stay_together(void **state)
{
	enum { KEYS = 4096, CHAIN_MAX = 16 };

	for (uint64_t distance = 1; distance < UINT64_MAX / 4 / KEYS; distance *= 2) {
		unsigned int chains[KEYS] = {0};

		for (uint64_t i = 0; i < KEYS; i++) {
			unsigned int *chain = &chains[map_hash_u64(i * distance) % KEYS];

			assert_true(++*chain <= CHAIN_MAX);
		}
	}
	for (uint64_t key = 0; key < KEYS; key++) {
		if ((key + 1) % 64 != 0)
			assert_int_equal(map_hash_u64(key + 1), map_hash_u64(key) + 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_map_finds_what_was_added_and_not_removed),
		cmocka_unit_test(each_visits_every_node_once),
		cmocka_unit_test(reserve_covers_what_is_added_after_it),
		cmocka_unit_test(numbers_at_any_distance_spread_and_neighbours_stay_together),
		cmocka_unit_test(pins_count_each_inode_by_itself),
		cmocka_unit_test(a_held_inode_is_another_one_when_renewed_until_it_is_let_go),
		cmocka_unit_test(a_hold_that_is_not_there_is_not_let_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
