/*
 * umlfs: the program. Looks a command up and runs it.
 * Invariant: exit status 0 done, 1 failed, 2 wrong usage, but for check, verify, diff and run.
 */
#define FUSE_USE_VERSION 312
#include <ctype.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "cmd_bus.h"

const struct command *const commands[] = {
	&cmd_import, &cmd_mount, &cmd_umount, &cmd_snapshot, &cmd_reset,  &cmd_list,
	&cmd_delete, &cmd_diff,  &cmd_export, &cmd_commit,   &cmd_status, &cmd_check,
	&cmd_verify, &cmd_run,   &cmd_doctor, &cmd_clean,    NULL,
};

static int print_help(FILE *out)
{
	fputs("usage: umlfs COMMAND [OPTION...] ARGUMENT...\n"
	      "       umlfs COMMAND --help\n"
	      "       umlfs help [COMMAND] | -h | --help | -V | --version\n\n"
	      "Root file systems for User-Mode Linux: a read-only base, a writable session on\n"
	      "it, snapshots, and a reset in milliseconds, without root.\n\n",
	      out);
	for (const struct command *const *c = commands; *c; c++)
		fprintf(out, "  %-10s %s\n", (*c)->name, (*c)->help);
	fputs("\n  umlfs import root.tar.xz base      # once\n"
	      "  mnt=$(umlfs mount base session)    # boot: rootfstype=hostfs rootflags=$mnt\n"
	      "  umlfs snapshot session clean\n"
	      "  umlfs reset session clean          # milliseconds, the mount stays up\n"
	      "  umlfs umount session\n"
	      "  umlfs run base -- uname -a         # mount, boot, run, and nothing is left\n",
	      out);
	return out == stdout ? EXIT_DONE : EXIT_USAGE;
}

static int print_version(void)
{
	printf("umlfs %s (libfuse %s)\n", UMLFS_VERSION, fuse_pkgversion());
	return EXIT_DONE;
}

/* A standard descriptor that is closed would become a file of ours, and get what is meant for people. */
static void fill_standard_descriptors(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR); /* for what cmd_become() hands over to, too */
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* True of words that differ in one letter, in two that were swapped, or in capitals at their start. */
static bool is_close(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);

	for (; n && m && tolower((unsigned char)*a) == *b; n--, m--) {
		a++;
		b++;
	}
	for (; n && m && a[n - 1] == b[m - 1]; n--)
		m--;
	return (n <= 1 && m <= 1) || (n == 2 && m == 2 && a[0] == b[1] && a[1] == b[0]);
}

static int refuse(const char *word)
{
	const struct command *const *c = commands;

	while (*c && !is_close(word, (*c)->name))
		c++;
	log_error(&cmd_log, 0, "%s: unknown command: %s%s%s`umlfs --help` lists them", word, *c ? "did you mean `" : "",
	          *c ? (*c)->name : "", *c ? "`? " : "");
	return EXIT_USAGE;
}

static int run(int argc, char **argv, int *failed_out)
{
	char help[] = "--help";

	if (argc < 2)
		return print_help(stderr);
	if (argc > 2 && strcmp(argv[1], "help") == 0) {
		argv[1] = argv[2];
		argv[2] = help;
		argv[argc = 3] = NULL;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)
		return print_help(stdout);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return print_version();
	for (const struct command *const *c = commands; *c; c++) {
		if (strcmp(argv[1], (*c)->name) != 0 && (!(*c)->alias || strcmp(argv[1], (*c)->alias) != 0))
			continue;
		if ((*c)->failed)
			*failed_out = (*c)->failed;
		cmd_catch_bus("this command", *failed_out);
		return (*c)->run(*c, argc - 1, argv + 1);
	}
	return refuse(argv[1]);
}

int main(int argc, char **argv)
{
	int failed = EXIT_FAILED;
	int status;

	fill_standard_descriptors();
	status = run(argc, argv, &failed);
	return cmd_end(status, failed);
}
