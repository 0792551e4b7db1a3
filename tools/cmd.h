/* cmd: what the program's commands are and share. A command is data; main() only looks it up. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "umlfs/log.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct command {
	const char *name;
	const char *alias;   /* another name, or NULL */
	const char *usage;   /* the arguments */
	const char *help;    /* one line */
	bool words;          /* behind its first argument stand no paths: who takes them says what one may not be */
	const char *details; /* what --help says besides, or NULL; ends with a newline */
	int failed;          /* its exit status when it could not do its work; 0: EXIT_FAILED */
	int (*run)(const struct command *self, int argc, char **argv);
};

extern const struct command cmd_import, cmd_mount, cmd_umount, cmd_snapshot, cmd_reset, cmd_list, cmd_delete,
	cmd_status, cmd_check, cmd_verify, cmd_diff, cmd_export, cmd_commit, cmd_run, cmd_doctor, cmd_clean;

/* The commands in the order of `umlfs --help`, NULL at the end. */
extern const struct command *const commands[];

/* A log that prints "umlfs: line" to standard error. */
extern const struct log cmd_log;

/* The flags that a command takes besides --help: letters as for getopt(3). */
struct cmd_flags {
	const char *letters;        /* without '+' and 'h' */
	const struct option *names; /* as for getopt_long(3), or NULL; "help" is added */
	void *arg;
	/* Takes one flag: 0, or EXIT_USAGE after it has said why. */
	int (*take)(void *arg, int flag, const char *value);
};

/*
 * Parses argv. -1: the arguments start at *first_out and are from least to most in number; else the exit
 * status: --help was printed, or a usage error.
 */
int cmd_parse(const struct command *self, int argc, char **argv, const struct cmd_flags *flags, int least, int most,
              int *first_out);

/* For struct cmd_flags, of a command with one flag: arg is a bool, which becomes true. */
int cmd_take_true(void *arg, int flag, const char *value);

/*
 * Hands over to a program of its own that is part of this one, such as umlfs-import: it stands beside this one or
 * where it was installed. Answers only when there is none: the exit status.
 */
int cmd_become(const char *program, char **argv);

/* Prints "umlfs: text" and where to find help; answers EXIT_USAGE. */
int cmd_usage_error(const struct command *self, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A number above 0, also with K, M, G or T behind it; false when it is none. */
bool cmd_read_number(const char *text, unsigned long long *out);

/* The exit status of a library call. */
static inline int cmd_exit(int r)
{
	return r < 0 ? EXIT_FAILED : EXIT_DONE;
}

/* Of a clock that nobody sets, to tell how long something took. */
double cmd_seconds(void);

/*
 * The end of a program: its exit status, or `failed` when what it printed could not be written, which is said: it may have been in
 * a buffer until now. Standard output stays open.
 */
int cmd_end(int status, int failed);

/* A path as a session answers it, with %XX for control characters and '%', becomes the path; in place. See umlfs/request.h. */
void cmd_decode_path(char *path);

/* Bytes as a person reads them: "1.5 MiB". */
void cmd_print_bytes(char *text, size_t size, unsigned long long bytes);

/* A path on one line: as it is, or in quotation marks with C's escapes when it holds spaces, controls or no UTF-8. */
void cmd_print_quoted(FILE *out, const char *text);
