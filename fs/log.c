/*
 * log: turns a message into one line for the sink that the caller gave.
 * Invariant: a line holds no control character, whatever a file name contains.
 * Called by every module that can explain a failure.
 */
#include "umlfs/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LINE_MAX_BYTES = 1024 };

static void clean_line(char *line)
{
	for (; *line; line++) {
		if ((unsigned char)*line < 0x20 || *line == 0x7f)
			*line = '?';
	}
}

static void emit(const struct log *log, enum log_level level, int error, const char *format, va_list args)
	__attribute__((format(printf, 4, 0)));

static void emit(const struct log *log, enum log_level level, int error, const char *format, va_list args)
{
	char line[LINE_MAX_BYTES];
	size_t used;

	if (!log || !log->write)
		return;
	vsnprintf(line, sizeof(line), format, args);
	used = strlen(line);
	if (error)
		snprintf(line + used, sizeof(line) - used, ": %s", strerror(error));
	clean_line(line);
	log->write(log->arg, level, line);
}

int log_error(const struct log *log, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	emit(log, LOG_LEVEL_ERROR, 0, format, args);
	va_end(args);
	return r;
}

int log_errno(const struct log *log, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	emit(log, LOG_LEVEL_ERROR, -r, format, args);
	va_end(args);
	return r;
}

void log_warning(const struct log *log, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	emit(log, LOG_LEVEL_WARNING, 0, format, args);
	va_end(args);
}

void log_note(const struct log *log, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	emit(log, LOG_LEVEL_NOTE, 0, format, args);
	va_end(args);
}
