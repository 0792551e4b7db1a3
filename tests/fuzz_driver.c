/*
 * fuzz_driver: gives libFuzzer a target, and a mutator that makes checksums right most of the time.
 * Invariant: one mutation in eight is left as it is, so that the checks of the checksums are fuzzed too.
 * Called by libFuzzer.
 */
#include <stdlib.h>

#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t len, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t max, unsigned int seed);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failed expectation is a crash */
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	fuzz_one(bytes, len < FUZZ_INPUT_MAX ? len : FUZZ_INPUT_MAX);
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t max, unsigned int seed)
{
	len = LLVMFuzzerMutate(bytes, len, max);
	return seed % 8 ? fuzz_mend(bytes, len) : len;
}
