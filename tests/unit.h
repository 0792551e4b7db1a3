/*
 * unit: what every unit test includes: cmocka, and the one assertion that it lacks.
 * Invariant: a failed expectation names what was asked, what was wanted and what came.
 * Called by the unit tests and their parts (unit_*.c).
 */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* cmocka 2 warns of the name that cmocka 1 has for it. */
#ifndef assert_int_in_range
#define assert_int_in_range(value, low, high) assert_in_range(value, low, high)
#endif

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

/* Statuses as the library answers them: 0, a number, or -errno. */
static inline void __attribute__((format(printf, 3, 4))) expect_status(long got, long want, const char *format, ...)
{
	char what[512];
	va_list args;

	if (got == want)
		return;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	fail_msg("%s: got %ld (%s), wanted %ld (%s)", what, got, got < 0 ? strerror((int)-got) : "no error", want,
	         want < 0 ? strerror((int)-want) : "no error");
}

/* A number from the environment, else what is usual. */
static inline uint64_t unit_number(const char *variable, uint64_t usual)
{
	const char *text = getenv(variable);

	return text && *text ? strtoull(text, NULL, 0) : usual;
}

/* Random numbers that a seed repeats (splitmix64). */
struct unit_random {
	uint64_t state;
};

static inline uint64_t unit_random(struct unit_random *random, uint64_t below)
{
	uint64_t z = random->state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}
