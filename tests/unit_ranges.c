/*
 * unit_ranges: a set of ranges holds exactly the bytes that were added.
 * Invariant: what it must hold is kept as one flag a byte.
 * Called by meson test.
 */
#include "ranges.h"
#include "unit.h"

enum { BYTES = 200, ROUNDS = 300 };

static void expect_same(const struct ranges *r, const bool *want)
{
	uint64_t bytes = 0;

	for (uint64_t at = 0; at < BYTES; at++) {
		uint64_t next = at;
		bool in;
		uint64_t end = ranges_end(r, at, &in);

		while (next < BYTES && want[next] == want[at])
			next++;
		assert_int_equal(in, want[at]);
		assert_true(end == next || (next == BYTES && !in && end == UINT64_MAX));
		bytes += want[at];
	}
	assert_int_equal(r->bytes, bytes);
	for (size_t i = 1; i < r->n; i++)
		assert_true(r->list[i - 1].to < r->list[i].from);
}

static void what_was_added_is_in(void **state)
{
	struct unit_random random = {5};

	for (unsigned int round = 0; round < ROUNDS; round++) {
		struct ranges r = {0};
		bool want[BYTES] = {false};

		expect_same(&r, want);
		for (unsigned int i = 0; i < 20; i++) {
			uint64_t from = unit_random(&random, BYTES);
			uint64_t to = from + 1 + unit_random(&random, i % 3 ? 8 : BYTES - from);

			to = to < BYTES ? to : BYTES;
			assert_int_equal(ranges_reserve(&r, 1), 0);
			ranges_add(&r, from, to);
			for (uint64_t at = from; at < to; at++)
				want[at] = true;
			expect_same(&r, want);
		}
		ranges_fini(&r);
	}
}

static void offsets_of_any_size_are_found(void **state)
{
	struct ranges r = {0};
	bool in;

	assert_int_equal(ranges_reserve(&r, 2), 0);
	ranges_add(&r, INT64_MAX - 1, INT64_MAX);
	assert_int_equal(ranges_end(&r, 0, &in), INT64_MAX - 1);
	assert_false(in);
	assert_int_equal(ranges_end(&r, INT64_MAX - 1, &in), INT64_MAX);
	assert_true(in);
	assert_int_equal(ranges_end(&r, INT64_MAX, &in), UINT64_MAX);
	assert_false(in);
	ranges_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_added_is_in),
		cmocka_unit_test(offsets_of_any_size_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
