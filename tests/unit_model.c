/*
 * unit_model: random operations on a session and on a host directory give the same results and the same
 * trees.
 * Invariant: the seed decides everything; a failure prints a short script, which can be done again.
 * Called by meson test and tests/test_model.py.
 */
#include <inttypes.h>
#include <sys/stat.h>

#include "model.h"

enum { OPS = 8000, OPS_OF_A_ROUND = 4000, SHRINK_SECONDS = 60 };

static const char usage[] =
	"usage: unit_model [tree | mount [OPTIONS [imported]]]\n"
	"\n"
	"Random operations on the tree, or on a mount (OPTIONS as behind -o, \"-\" for none) of a plain or an\n"
	"imported base, and on a host directory. In the environment:\n"
	"\n"
	"  UMLFS_MODEL_OPS      how many operations (8000); every 4000 begin anew, with the next seed\n"
	"  UMLFS_MODEL_SEED     the first seed (1)\n"
	"  UMLFS_MODEL_SCRIPT   a file with the lines that a failure printed: done instead\n"
	"  UMLFS_MODEL_SHRINK   seconds to make a script that fails short (60)\n"
	"  UMLFS_UNIT_DIR       where to work (/dev/shm or /tmp)\n"
	"  UMLFS                the program, for mounts\n";

static struct model_options parse(int argc, char **argv)
{
	struct model_options options = {.side = &side_tree, .xattrs = true, .owners = true};

	if (argc > 1 && strcmp(argv[1], "mount") == 0) {
		options.side = &side_mount;
		options.mount_options = argc > 2 && strcmp(argv[2], "-") != 0 ? argv[2] : NULL;
		options.imported = argc > 3 && strcmp(argv[3], "imported") == 0;
		options.owners = options.mount_options && strstr(options.mount_options, "posix");
		options.xattrs = options.mount_options &&
		                 (strstr(options.mount_options, "posix") || strstr(options.mount_options, "xattr"));
	} else if (argc > 1 && strcmp(argv[1], "tree") != 0) {
		bool is_help = strcmp(argv[1], "--help") == 0;

		fputs(usage, is_help ? stdout : stderr);
		exit(is_help ? 0 : 2);
	}
	return options;
}

static int report(const struct model_options *options, struct script *script, uint64_t seed, char *said)
{
	size_t before = script->n;

	printf("seed %" PRIu64 ": step %zu failed: %s\n", seed, before, said);
	fflush(stdout);
	model_shrink(options, script, (unsigned int)unit_number("UMLFS_MODEL_SHRINK", SHRINK_SECONDS), &said);
	printf("%zu of %zu steps fail too; with them in a file, UMLFS_MODEL_SCRIPT=FILE does them again:\n\n",
	       script->n, before);
	script_print(script, stdout);
	printf("\n%s", said);
	free(said);
	script_free(script);
	return 1;
}

static int replay(const struct model_options *options, const char *path)
{
	struct script script = script_read(path), done = {0};
	char *said = NULL;
	bool same = model_run(options, 0, 0, &script, &done, &said);

	if (same)
		printf("%zu steps of %s: all the same\n", script.n, path);
	script_free(&script);
	return same ? 0 : report(options, &done, 0, said);
}

int main(int argc, char **argv)
{
	struct model_options options = parse(argc, argv);
	uint64_t first = unit_number("UMLFS_MODEL_SEED", 1), seed = first;
	uint64_t wanted = unit_number("UMLFS_MODEL_OPS", OPS);
	const char *script = getenv("UMLFS_MODEL_SCRIPT");

	umask(0);
	if (script)
		return replay(&options, script);
	for (uint64_t n = 0; n < wanted; n += OPS_OF_A_ROUND, seed++) {
		uint64_t steps = wanted - n < OPS_OF_A_ROUND ? wanted - n : OPS_OF_A_ROUND;
		struct script done = {0};
		char *said = NULL;
		if (!model_run(&options, seed, steps, NULL, &done, &said))
			return report(&options, &done, seed, said);
	}
	printf("%" PRIu64 " operations from seed %" PRIu64 ": all the same\n", wanted, first);
	return 0;
}
