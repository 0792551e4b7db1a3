/*
 * cmd: parses the flags of a command, and says things in one way.
 * Invariant: what is for scripts goes to standard output, everything else to standard error.
 * Called by the cmd_*.c files.
 */
#include "cmd.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd_color.h"

enum { COLUMNS = 80, TEXT_MAX = 1024 };

/* By one call: what several say at once stays apart line by line. */
static void print_line(void *arg, enum log_level level, const char *line)
{
	bool colored = level != LOG_LEVEL_NOTE && cmd_color_wanted(stderr);

	fprintf(stderr, "%sumlfs:%s %s%s\n",
	        cmd_color_start(colored, level == LOG_LEVEL_WARNING ? COLOR_YELLOW : COLOR_RED), cmd_color_end(colored),
	        level == LOG_LEVEL_WARNING ? "warning: " : "", line);
}

const struct log cmd_log = {.write = print_line};

/* One argument of a usage, with all that stands in its brackets. */
static size_t argument_length(const char *usage)
{
	int depth = 0;
	size_t len;

	for (len = 0; usage[len] && (usage[len] != ' ' || depth > 0); len++)
		depth += (usage[len] == '[') - (usage[len] == ']');
	return len;
}

/* In lines of at most COLUMNS, cut between arguments. */
static void print_usage(FILE *out, const struct command *self)
{
	int indent = fprintf(out, "usage: umlfs %s", self->name);
	int column = indent;

	for (const char *at = self->usage; *at; at += strspn(at, " ")) {
		size_t len = argument_length(at);

		if (column + 1 + (int)len > COLUMNS) {
			fprintf(out, "\n%*s", indent, "");
			column = indent;
		}
		column += fprintf(out, " %.*s", (int)len, at);
		at += len;
	}
	fputc('\n', out);
}

static int print_help(const struct command *self)
{
	print_usage(stdout, self);
	printf("\n%s\n", self->help);
	if (self->details)
		printf("\n%s", self->details);
	return EXIT_DONE;
}

int cmd_usage_error(const struct command *self, const char *format, ...)
{
	char text[TEXT_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_error(&cmd_log, 0, "%s", text);
	print_usage(stderr, self);
	return EXIT_USAGE;
}

/* The argument of this number, of those that must be given, is not there. */
static int missing(const struct command *self, int number)
{
	const char *at = self->usage;

	while (*at == '[' || number-- > 0) {
		at += argument_length(at);
		at += strspn(at, " ");
	}
	return cmd_usage_error(self, "%s: %.*s is missing", self->name, (int)argument_length(at), at);
}

enum { NAMES_MAX = 32 };

/* The command's long names and "help". */
static void gather_names(const struct option *from, struct option names[NAMES_MAX])
{
	int n = 0;

	for (; from && from->name && n < NAMES_MAX - 2; from++)
		names[n++] = *from;
	names[n++] = (struct option){.name = "help", .val = 'h'};
	names[n] = (struct option){0};
}

/* An option that nobody knows is likely one of COMMAND's when no "--" is there. */
static int unknown_option(const struct command *self, char **argv, const char *option)
{
	bool hints = strstr(self->usage, "-- COMMAND") != NULL;

	for (; *argv; argv++)
		hints = hints && strcmp(*argv, "--") != 0;
	return cmd_usage_error(self, "%s: unknown option%s", option, hints ? ": put -- before COMMAND" : "");
}

int cmd_take_true(void *arg, int flag, const char *value)
{
	*(bool *)arg = true;
	return 0;
}

int cmd_parse(const struct command *self, int argc, char **argv, const struct cmd_flags *flags, int least, int most,
              int *first_out)
{
	struct option names[NAMES_MAX];
	char letters[32];
	int flag;

	gather_names(flags ? flags->names : NULL, names);
	snprintf(letters, sizeof(letters), ":h%s", flags ? flags->letters : "");
	optind = 1;
	opterr = 0;
	while ((flag = getopt_long(argc, argv, letters, names, NULL)) != -1) {
		int r;

		if (flag == 'h')
			return print_help(self);
		if (flag == ':')
			return cmd_usage_error(self, "%s: needs a value", argv[optind - 1]);
		if (flag == '?')
			return unknown_option(self, argv,
			                      optopt ? (char[]){'-', (char)optopt, '\0'} : argv[optind - 1]);
		r = flags->take(flags->arg, flag, optarg);
		if (r != 0)
			return r;
	}
	if (argc - optind < least)
		return missing(self, argc - optind);
	if (argc - optind > most)
		return cmd_usage_error(self, "%s: unexpected argument", argv[optind + most]);
	for (int i = optind; i < argc; i++) {
		if (*argv[i] == '\0' && (i == optind || !self->words))
			return cmd_usage_error(self, "%s: an argument is empty", self->name);
	}
	*first_out = optind;
	return -1;
}

/* With K, M, G or T behind it: times 1024 once or more. */
bool cmd_read_number(const char *text, unsigned long long *out)
{
	static const char units[] = "KMGT";
	unsigned long long n;
	const char *unit;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
	if (unit && n <= ULLONG_MAX >> 10 * (unit - units + 1)) {
		n <<= 10 * (unit - units + 1);
		end++;
	}
	if (!isdigit((unsigned char)*text) || *end || errno || n == 0)
		return false;
	*out = n;
	return true;
}

int cmd_end(int status, int failed)
{
	bool lost = ferror(stdout) != 0; /* of what was written before: the reason is forgotten */

	/* Some file systems tell at close(2) only; but who reads is told of the end by the end of the process, and not before. */
	errno = 0;
	if (fflush(stdout) == 0 && !lost && close(dup(STDOUT_FILENO)) == 0)
		return status;
	log_error(&cmd_log, -errno, "standard output: %s", errno ? strerror(errno) : "cannot be written");
	return failed;
}

void cmd_decode_path(char *path)
{
	char *to = path;
	unsigned int byte;

	while (*path) {
		bool coded = *path == '%' && sscanf(path + 1, "%2x", &byte) == 1 && byte;

		*to++ = coded ? (char)byte : *path;
		path += coded ? 3 : 1;
	}
	*to = '\0';
}

double cmd_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void cmd_print_bytes(char *text, size_t size, unsigned long long bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	int unit = 0;

	while (value >= 1024 && unit < 6) {
		value /= 1024;
		unit++;
	}
	snprintf(text, size, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}
