/*
 * unit_pool: promises of pool.
 * Invariant: every piece that is out is filled with bytes of its own, so that an overlap shows.
 * Called by meson test.
 */
#include "pool.h"

#include "unit.h"

enum { PIECES = 3000, ROUNDS = 40000 };

struct piece {
	unsigned char *at;
	size_t size;
	unsigned char fill;
};

static void take(struct pool *pool, struct piece *p, size_t size, unsigned char fill)
{
	*p = (struct piece){.at = pool_get(pool, size), .size = size, .fill = fill};
	assert_non_null(p->at);
	assert_int_equal((uintptr_t)p->at % POOL_GRAIN, 0);
	memset(p->at, fill, size);
}

static void expect_whole(const struct piece *p)
{
	for (size_t i = 0; i < p->size; i++)
		assert_int_equal(p->at[i], p->fill);
}

static void give_back(struct pool *pool, struct piece *p)
{
	expect_whole(p);
	pool_put(pool, p->at, p->size);
	p->at = NULL;
}

static void pieces_of_all_sizes_keep_their_bytes(void **state)
{
	struct unit_random random = {.state = 1};
	struct piece *pieces = calloc(PIECES, sizeof(*pieces));
	struct pool pool = {0};

	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct piece *p = &pieces[unit_random(&random, PIECES)];

		if (p->at)
			give_back(&pool, p);
		else
			take(&pool, p, unit_random(&random, POOL_MAX + 1), (unsigned char)i);
	}
	for (unsigned int i = 0; i < PIECES; i++) {
		if (pieces[i].at)
			expect_whole(&pieces[i]);
	}
	pool_fini(&pool);
	free(pieces);
}

static void what_came_back_serves_the_next_of_its_size(void **state)
{
	struct pool pool = {0};
	struct piece kept, first, second;

	take(&pool, &kept, 48, 1);
	take(&pool, &first, 100, 2);
	give_back(&pool, &first);
	take(&pool, &second, 97, 3); /* as large when rounded up */
	assert_int_equal(pool.n, 2);
	take(&pool, &first, 100, 4);
	expect_whole(&second);
	expect_whole(&kept);
	pool_put(&pool, NULL, 100);
	assert_int_equal(pool.n, 3);
	pool_fini(&pool);
}

static void an_empty_pool_holds_no_memory(void **state)
{
	struct piece *pieces = calloc(PIECES, sizeof(*pieces));
	struct pool pool = {0};

	for (unsigned int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < PIECES; i++)
			take(&pool, &pieces[i], round == 0 ? 192 : POOL_MAX, (unsigned char)i); /* heap; mapped too */
		assert_non_null(pool.blocks);
		for (unsigned int i = 0; i < PIECES; i++)
			give_back(&pool, &pieces[i]);
		assert_null(pool.blocks);
	}
	free(pieces);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_of_all_sizes_keep_their_bytes),
		cmocka_unit_test(what_came_back_serves_the_next_of_its_size),
		cmocka_unit_test(an_empty_pool_holds_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
