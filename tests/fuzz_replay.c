/*
 * fuzz_replay: gives a target its seeds and the inputs that were kept, without a fuzzer.
 * Invariant: an input that takes longer than PATIENCE ends the program, as one that breaks a promise does.
 * Called by meson test, and by tools/fuzz to write the seeds.
 *
 * usage: replay_TARGET [FILE|DIRECTORY...]     the seeds, then these
 *        replay_TARGET --seeds DIRECTORY       writes the seeds there
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "unit.h"
#include "unit_place.h"

enum { PATIENCE = 60 }; /* seconds for one input, under valgrind or a sanitizer too */

static unsigned int run(const char *name, const unsigned char *bytes, size_t len)
{
	fprintf(stderr, "%s\n", name); /* the last one told is the one that failed */
	alarm(PATIENCE);
	fuzz_one(bytes, len < FUZZ_INPUT_MAX ? len : FUZZ_INPUT_MAX);
	alarm(0);
	return 1;
}

static unsigned int run_path(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	unsigned int n = 0;
	unsigned char *bytes;
	size_t len;

	if (!dir) {
		bytes = place_get(AT_FDCWD, path, &len);
		n = run(path, bytes, len);
		free(bytes);
		return n;
	}
	while ((entry = readdir(dir))) {
		char below[PATH_MAX];

		snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
		if (entry->d_name[0] != '.')
			n += run_path(below);
	}
	closedir(dir);
	return n;
}

static void write_seeds(const char *dir)
{
	static unsigned char bytes[FUZZ_INPUT_MAX];
	char path[PATH_MAX];
	size_t len;

	for (unsigned int nr = 0; (len = fuzz_seed(nr, bytes)) > 0; nr++) {
		snprintf(path, sizeof(path), "%s/seed-%u", dir, nr);
		place_put(AT_FDCWD, path, bytes, len);
	}
}

int main(int argc, char **argv)
{
	static unsigned char bytes[FUZZ_INPUT_MAX];
	unsigned int n = 0;
	size_t len;

	setenv("CMOCKA_TEST_ABORT", "1", 1);
	if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
		write_seeds(argv[2]);
		return 0;
	}
	for (unsigned int nr = 0; (len = fuzz_seed(nr, bytes)) > 0; nr++)
		n += run("seed", bytes, len);
	for (int i = 1; i < argc; i++)
		n += run_path(argv[i]);
	printf("%u passed\n", n);
	return 0;
}
