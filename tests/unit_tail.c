/*
 * unit_tail: promises of run_tail, the last words of a kernel.
 * Invariant: text comes in any parts.
 * Called by meson test.
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "run.h"

static const char words[] = "a\r\nKernel panic - not syncing: why\r\nCPU: 0";

static void a_panic_is_seen_in_whatever_parts_it_comes(void **state)
{
	for (size_t cut = 0; cut < sizeof(words); cut++) {
		static struct run_tail tail;
		char line[64];

		tail = (struct run_tail){0};
		run_tail_add(&tail, words, cut);
		run_tail_add(&tail, words + cut, strlen(words) - cut);
		assert_true(tail.panicked);
		run_tail_panic(&tail, line, sizeof(line));
		assert_string_equal(line, "Kernel panic - not syncing: why");
	}
}

/* What is printed of lines with these numbers. */
static void expect_printed(const struct run_tail *tail, int from, int to)
{
	char *printed, *expected;
	size_t len, expected_len;
	FILE *out = open_memstream(&printed, &len);
	FILE *lines = open_memstream(&expected, &expected_len);

	run_tail_print(tail, out);
	for (int i = from; i < to; i++)
		fprintf(lines, "line %d\n", i);
	fclose(out);
	fclose(lines);
	assert_string_equal(printed, expected);
	free(printed);
	free(expected);
}

static void the_last_lines_are_printed_however_many_there_were(void **state)
{
	enum { SHOWN = 25, LINES = 5000 };
	static struct run_tail tail;

	for (int i = 0; i < LINES; i++) {
		char line[32];
		size_t len = (size_t)snprintf(line, sizeof(line), "line %d\r\n", i);

		run_tail_add(&tail, line, len);
		expect_printed(&tail, i < SHOWN ? 0 : i + 1 - SHOWN, i + 1);
	}
	assert_false(tail.panicked);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_panic_is_seen_in_whatever_parts_it_comes),
		cmocka_unit_test(the_last_lines_are_printed_however_many_there_were),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
