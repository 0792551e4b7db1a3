/*
 * fuzz: what a fuzz target is: one function that gives bytes to the real code and looks at what comes of it.
 * Invariant: a target leaves no descriptor, file or memory behind, whatever the bytes are; it aborts when a promise is broken.
 * Called by fuzz_driver.c (coverage-guided, long) and fuzz_replay.c (what was found before, in every test run).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Longer inputs are cut. */
enum { FUZZ_INPUT_MAX = 16384 };

/* Gives the bytes to the code. */
void fuzz_one(const unsigned char *bytes, size_t len);

/* Makes checksums and lengths right, so that what lies behind them is reached: the new length, at most len. */
size_t fuzz_mend(unsigned char *bytes, size_t len);

/* Where it starts: the bytes of seed nr, their number; 0 when there is no such seed. */
size_t fuzz_seed(unsigned int nr, unsigned char bytes[FUZZ_INPUT_MAX]);

/* What is left of an input that is read byte by byte; behind its end are zeros. */
struct fuzz_input {
	const unsigned char *at;
	size_t left;
};

static inline unsigned int fuzz_byte(struct fuzz_input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}
