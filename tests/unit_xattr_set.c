/*
 * unit_xattr_set: promises of xattr_set.
 * Invariant: every set that is read lies in a heap block of its own length, so that a byte too far is seen.
 * Called by meson test.
 */
#include "xattr_set.h"

#include "unit.h"

struct pair {
	const char *name, *value;
};

static const struct pair pairs[] = {
	{"user.b", "second"},   {"user.a", "first"}, {"user.empty", ""}, {"security.capability", "\1\2\3"},
	{"user.ab", "between"}, {"trusted.x", "t"},
};

/* A set of the pairs, added in this order. */
static struct xattr_set make_set(const unsigned int order[ARRAY_LEN(pairs)])
{
	struct xattr_set set = {0};

	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		const struct pair *p = &pairs[order[i]];
		unsigned char *bytes;
		size_t len;

		assert_int_equal(xattr_set_with(set, p->name, p->value, strlen(p->value), &bytes, &len), 0);
		free((void *)(uintptr_t)set.bytes);
		set = (struct xattr_set){bytes, len};
	}
	return set;
}

static void put_back(struct xattr_set set)
{
	free((void *)(uintptr_t)set.bytes);
}

static void a_set_is_sorted_whatever_the_order(void **state)
{
	static const unsigned int orders[][ARRAY_LEN(pairs)] = {
		{0, 1, 2, 3, 4, 5},
		{5, 4, 3, 2, 1, 0},
		{3, 0, 5, 1, 4, 2},
	};
	struct xattr_set want = make_set(orders[0]);
	char names[200];

	for (size_t i = 1; i < ARRAY_LEN(orders); i++) {
		struct xattr_set set = make_set(orders[i]);

		assert_int_equal(set.len, want.len);
		assert_memory_equal(set.bytes, want.bytes, want.len);
		put_back(set);
	}
	assert_int_equal(xattr_set_check(want), 0);
	assert_int_equal(xattr_set_list(want, names, sizeof(names)), xattr_set_list(want, NULL, 0));
	assert_memory_equal(names, "security.capability\0trusted.x\0user.a\0user.ab\0user.b\0user.empty", 62);
	assert_int_equal(xattr_set_list(want, names, 61), -ERANGE);
	put_back(want);
}

static void values_can_be_read_replaced_and_removed(void **state)
{
	static const unsigned int order[] = {0, 1, 2, 3, 4, 5};
	struct xattr_set set = make_set(order);
	const void *value;
	unsigned char *bytes;
	size_t len;

	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		assert_int_equal(xattr_set_get(set, pairs[i].name, &value), strlen(pairs[i].value));
		assert_memory_equal(value, pairs[i].value, strlen(pairs[i].value));
	}
	assert_int_equal(xattr_set_get(set, "user.", &value), -ENODATA);
	assert_int_equal(xattr_set_get(set, "user.abc", &value), -ENODATA);
	assert_int_equal(xattr_set_with(set, "user.ab", "new value", 9, &bytes, &len), 0);
	assert_int_equal(xattr_set_get((struct xattr_set){bytes, len}, "user.ab", &value), 9);
	assert_int_equal(len, set.len + 2);
	free(bytes);
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		assert_int_equal(xattr_set_with(set, pairs[i].name, NULL, 0, &bytes, &len), 0);
		assert_int_equal(xattr_set_get((struct xattr_set){bytes, len}, pairs[i].name, &value), -ENODATA);
		put_back(set);
		set = (struct xattr_set){bytes, len};
	}
	assert_int_equal(set.len, 0);
	put_back(set);
}

static void limits_are_those_of_the_manual(void **state)
{
	static char big[XATTR_VALUE_MAX + 1];
	char name[258];
	unsigned char *bytes = NULL, *more = NULL;
	size_t len, more_len;

	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	assert_int_equal(xattr_set_with((struct xattr_set){0}, name, "", 0, &bytes, &len), -ERANGE);
	assert_int_equal(xattr_set_with((struct xattr_set){0}, "", "", 0, &bytes, &len), -ERANGE);
	name[255] = '\0';
	assert_int_equal(xattr_set_with((struct xattr_set){0}, name, "", 0, &bytes, &len), 0);
	free(bytes);
	assert_int_equal(xattr_set_with((struct xattr_set){0}, "a", big, sizeof(big), &bytes, &len), -E2BIG);
	assert_int_equal(xattr_set_with((struct xattr_set){0}, "a", big, XATTR_VALUE_MAX, &bytes, &len), 0);
	assert_int_equal(xattr_set_with((struct xattr_set){bytes, len}, "b", big, XATTR_VALUE_MAX, &more, &more_len),
	                 -ENOSPC);
	assert_null(more);
	free(bytes);
}

/* Walks a set that passed as its readers do. */
static void read_all(struct xattr_set set)
{
	static char names[XATTR_SET_MAX];
	const void *value;
	ssize_t len = xattr_set_list(set, names, sizeof(names));

	assert_true(len >= 0);
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
		ssize_t value_len = xattr_set_get(set, names + at, &value);

		assert_true(value_len >= 0);
		assert_true((const unsigned char *)value + value_len <= set.bytes + set.len);
	}
}

static void cut_and_damaged_sets_never_reach_beyond_their_end(void **state)
{
	static const unsigned int order[] = {0, 1, 2, 3, 4, 5};
	struct xattr_set set = make_set(order);
	unsigned int n_whole = 0;

	for (size_t cut = 0; cut < set.len; cut++) {
		unsigned char *copy = malloc(cut ? cut : 1);
		struct xattr_set part = {copy, cut};

		memcpy(copy, set.bytes, cut);
		if (xattr_set_check(part) == 0) {
			n_whole++;
			read_all(part);
		}
		free(copy);
	}
	assert_int_equal(n_whole, ARRAY_LEN(pairs)); /* nothing, and each item but the last */
	for (size_t at = 0; at < set.len * 8; at++) {
		unsigned char *copy = malloc(set.len);

		memcpy(copy, set.bytes, set.len);
		copy[at / 8] ^= (unsigned char)(1 << at % 8);
		if (xattr_set_check((struct xattr_set){copy, set.len}) == 0)
			read_all((struct xattr_set){copy, set.len});
		free(copy);
	}
	put_back(set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_set_is_sorted_whatever_the_order),
		cmocka_unit_test(values_can_be_read_replaced_and_removed),
		cmocka_unit_test(limits_are_those_of_the_manual),
		cmocka_unit_test(cut_and_damaged_sets_never_reach_beyond_their_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
