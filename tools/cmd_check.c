/*
 * cmd_check: looks a base or a session over, and says what is wrong with it.
 * Invariant: exit status as of fsck(8): 0 clean, 1 everything mended, 4 damage is left, 8 could not look, 2 wrong
 * usage.
 */
#include "cmd.h"

#include <getopt.h>

#include "cmd_json.h"
#include "umlfs/check.h"

enum { EXIT_CLEAN = 0, EXIT_MENDED = 1, EXIT_DAMAGED = 4, EXIT_NO_LOOK = 8 };

struct check {
	bool repair, json;
	size_t n_printed;
};

/* One line whatever is in it. */
static void print_text(const char *text)
{
	for (; *text; text++)
		printf((unsigned char)*text < ' ' || *text == 0x7f ? "%%%02X" : "%c", (unsigned char)*text);
}

static void print_finding(const struct finding *f)
{
	print_text(f->where);
	fputs(": ", stdout);
	print_text(f->what);
	puts(f->mended ? " [mended]" : f->mendable ? " [--repair mends it]" : "");
}

static void print_json_finding(const struct finding *f, bool first)
{
	printf("%s\n  {\"kind\": ", first ? "" : ",");
	cmd_json_string(stdout, f->kind);
	printf(", \"where\": ");
	cmd_json_string(stdout, f->where);
	printf(", \"what\": ");
	cmd_json_string(stdout, f->what);
	printf(", \"mendable\": %s, \"mended\": %s}", f->mendable ? "true" : "false", f->mended ? "true" : "false");
}

static void print_json_start(const struct check *c)
{
	if (c->n_printed == 0)
		printf("{\"schema\": 1, \"findings\": [");
}

static void print_found(void *arg, const struct finding *finding)
{
	struct check *c = arg;

	if (c->json) {
		print_json_start(c);
		print_json_finding(finding, c->n_printed == 0);
	} else {
		print_finding(finding);
	}
	c->n_printed++;
}

static void print_end(const struct check *c, const char *path, const struct check_result *result)
{
	size_t left = result->n_found - result->n_mended;

	if (c->json) {
		print_json_start(c);
		printf("%s], \"path\": ", c->n_printed ? "\n" : "");
		cmd_json_string(stdout, path);
		printf(", \"is\": \"%s\", \"found\": %zu, \"mended\": %zu, \"left\": %zu}\n",
		       result->is_base ? "base" : "session", result->n_found, result->n_mended, left);
		return;
	}
	print_text(path);
	if (result->n_found == 0)
		puts(": clean");
	else
		printf(": %zu found, %zu mended, %zu left\n", result->n_found, result->n_mended, left);
}

static int take_flag(void *arg, int flag, const char *value)
{
	struct check *c = arg;

	if (flag == 'R')
		c->repair = true;
	else
		c->json = true;
	return 0;
}

static int run_check(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "repair", .val = 'R'}, {.name = "json", .val = 'J'}, {0}};
	struct check c = {0};
	struct cmd_flags flags = {.letters = "", .names = names, .arg = &c, .take = take_flag};
	struct check_result result;
	struct check_options options = {.log = &cmd_log, .found = print_found, .arg = &c};
	int first;
	int r = cmd_parse(self, argc, argv, &flags, 1, 1, &first);

	if (r >= 0)
		return r;
	options.path = argv[first];
	options.repair = c.repair;
	if (check_run(&options, &result) < 0)
		return EXIT_NO_LOOK;
	print_end(&c, argv[first], &result);
	if (result.n_found == 0)
		return EXIT_CLEAN;
	return result.n_mended == result.n_found ? EXIT_MENDED : EXIT_DAMAGED;
}

const struct command cmd_check = {
	.name = "check",
	.usage = "[--repair] [--json] SESSION|BASE",
	.help = "check a session or an imported base for damage",
	.details = "The session may not be mounted. Prints a line for each finding; the last line\n"
		   "sums up. In a session it checks the manifest, the copy of the base's index, each\n"
		   "layer's journal, table and content files, and the tree of each snapshot; in a\n"
		   "base its index, and the files by name, type, size and time. Contents are not\n"
		   "read: `umlfs verify` does that.\n\n"
		   "  --repair  repair what can be repaired without removing anything that a\n"
		   "            snapshot or the session names: leftovers go, a torn journal is cut,\n"
		   "            link counts of the session are put right, inodes without a name go.\n"
		   "            Without it nothing on disk changes\n"
		   "  --json    {schema, findings: [{kind, where, what, mendable, mended}], path,\n"
		   "            is, found, mended, left}; kind is index, base, manifest, journal,\n"
		   "            table, content, stray, entry, directory, links, orphan, inode or\n"
		   "            state; is is session or base\n\n"
		   "Exit status, as of fsck(8): 0 clean, 1 all damage is repaired, 4 damage is left,\n"
		   "8 could not check (no such session, mounted, ...), 2 wrong usage.\n",
	.failed = EXIT_NO_LOOK,
	.run = run_check,
};
