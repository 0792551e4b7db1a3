/*
 * export_main: the program umlfs-export, which `umlfs export` and `umlfs commit` become. A program of its own for the reason
 * of umlfs-import.
 * Invariant: interrupted by a signal, it removes what it made and says so.
 */
#include "cmd.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd_bus.h"
#include "cmd_meter.h"
#include "umlfs/base_commit.h"
#include "umlfs/export.h"

static int take_diff(void *arg, int flag, const char *value)
{
	struct export_options *o = arg;

	o->layer = true;
	o->from = value;
	return 0;
}

/* As reproducible-builds.org's specification has it: a decimal number of seconds. */
static int read_epoch(const struct command *self, struct export_options *o)
{
	const char *text = getenv("SOURCE_DATE_EPOCH");
	char *end;

	if (!text || !*text)
		return 0;
	errno = 0;
	o->epoch = strtoll(text, &end, 10);
	o->has_epoch = true;
	if (errno || *end || *text < '0' || *text > '9')
		return cmd_usage_error(self, "SOURCE_DATE_EPOCH: %s: is no number of seconds", text);
	return 0;
}

/* How the work ended. */
static int say_end(const char *what, int r, uint64_t entries, uint64_t bytes, double took)
{
	char size[32];

	if (r == -ECANCELED)
		log_error(&cmd_log, 0, "%s: interrupted; nothing was made", what);
	if (r < 0)
		return EXIT_FAILED;
	cmd_print_bytes(size, sizeof(size), bytes);
	fprintf(stderr, "%s: %llu %s, %s, in %.1f s\n", what, (unsigned long long)entries,
	        entries == 1 ? "entry" : "entries", size, took);
	return EXIT_DONE;
}

static int run_export(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "diff", .has_arg = optional_argument, .val = 'D'}, {0}};
	struct cmd_meter meter;
	struct export_options options = {
		.log = &cmd_log, .progress = cmd_meter_tell, .progress_arg = &meter, .temporary = cmd_bus_remove};
	struct cmd_flags flags = {.letters = "", .names = names, .arg = &options, .take = take_diff};
	struct export_result result = {0};
	double took;
	int first;
	int r = cmd_parse(self, argc, argv, &flags, 2, 2, &first);

	if (r >= 0)
		return r;
	r = read_epoch(self, &options);
	if (r != 0)
		return r;
	options.source = argv[first];
	options.file = argv[first + 1];
	if (strcmp(options.file, "-") == 0 && isatty(STDOUT_FILENO)) {
		log_error(&cmd_log, 0,
		          "-: standard output is a terminal: name a file, or put the archive through a pipe");
		return EXIT_FAILED;
	}
	cmd_meter_start(&meter);
	r = export_run(&options, &result);
	took = cmd_meter_end(&meter);
	return say_end(options.file, r, result.entries, result.bytes, took);
}

static int run_commit(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "force", .val = 'F'}, {0}};
	struct cmd_meter meter;
	struct base_commit_options options = {
		.log = &cmd_log, .progress = cmd_meter_tell, .progress_arg = &meter, .temporary = cmd_bus_remove};
	struct cmd_flags flags = {.letters = "", .names = names, .arg = &options.force, .take = cmd_take_true};
	struct import_result result = {0};
	double took;
	int first;
	int r = cmd_parse(self, argc, argv, &flags, 2, 2, &first);

	if (r >= 0)
		return r;
	options.source = argv[first];
	options.base = argv[first + 1];
	cmd_meter_start(&meter);
	r = base_commit_run(&options, &result);
	took = cmd_meter_end(&meter);
	return say_end(options.base, r, result.entries, result.bytes, took);
}

#define STATE_HELP                                                                                                     \
	"Without NAME: the present state, also while the session is mounted, which goes\n"                             \
	"on meanwhile. SESSION@@base is the base.\n"

static const struct command export_command = {
	.name = "export",
	.usage = "[--diff[=FROM]] SESSION[@NAME] FILE|-",
	.help = "write a state of a session as a tar archive or an image layer",
	.details = STATE_HELP "\nFILE is there whole or not at all, and replaces a file that is there; - is\n"
			      "standard output. What ends in .gz, .tgz, .xz, .txz, .zst or .tzst is compressed;\n"
			      "a name that promises something else, such as .tar.bz2 or .zip, is refused.\n"
			      "The archive is of the pax format, with numeric owners, nanoseconds, devices,\n"
			      "hard links, holes and extended attributes (capabilities and ACLs are such),\n"
			      "whoever exports: `umlfs import` makes the same tree of it. Sockets are left out,\n"
			      "tar has none.\n\n"
			      "Names are sorted: the same state gives the same bytes, also through a pipe. With\n"
			      "SOURCE_DATE_EPOCH in the environment later times become that one, and times of a\n"
			      "change of an inode are left out.\n\n"
			      "  --diff[=FROM]  only what changed since FROM, a snapshot or @base (which it is\n"
			      "                 without FROM), as a layer of the OCI image format: .wh.NAME for\n"
			      "                 what went, .wh..wh..opq in a directory that hides another\n",
	.run = run_export,
};

static const struct command commit_command = {
	.name = "commit",
	.usage = "[--force] SESSION[@NAME] BASE",
	.help = "make a new base of a state of a session",
	.details = STATE_HELP "\nBASE is there whole or not at all, as after `umlfs import`, and no part of the\n"
			      "session. Files that are as an import left them are shared with the old base\n"
			      "where the host's file system can.\n\n"
			      "  --force  replace a base that is there, but not the session's, nor one that a\n"
			      "           mounted session stands on\n",
	.run = run_commit,
};

int main(int argc, char **argv)
{
	signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error like others, and what was begun is removed */
	cmd_catch_bus("this command", EXIT_FAILED);
	if (argc >= 2 && strcmp(argv[1], commit_command.name) == 0)
		return cmd_end(commit_command.run(&commit_command, argc - 1, argv + 1), EXIT_FAILED);
	if (argc >= 2 && strcmp(argv[1], export_command.name) == 0)
		return cmd_end(export_command.run(&export_command, argc - 1, argv + 1), EXIT_FAILED);
	return cmd_usage_error(&export_command, "this is a part of umlfs: run `umlfs export` or `umlfs commit`");
}
