/*
 * log: where the library says things to people.
 *
 * The library never prints. Whoever calls it passes a struct log; each call makes one line without the newline,
 * in the form "what: why: what to do". NULL is a log that drops everything.
 */
#pragma once

enum log_level {
	LOG_LEVEL_ERROR,   /* the call fails because of this */
	LOG_LEVEL_WARNING, /* the call goes on, the user should know */
	LOG_LEVEL_NOTE,    /* something was done that the user did not ask for by name */
};

struct log {
	/* Called from any thread of the library; line is valid during the call only. */
	void (*write)(void *arg, enum log_level level, const char *line);
	void *arg;
};

/* Writes an error and answers r, so that a function can say `return log_error(log, -EINVAL, ...)`. */
int log_error(const struct log *log, int r, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same with ": " and the text of errno -r behind it. */
int log_errno(const struct log *log, int r, const char *format, ...) __attribute__((format(printf, 3, 4)));

void log_warning(const struct log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_note(const struct log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
