/*
 * cmd_bus: says which mapped file could not be read when the kernel ends the process for it.
 * Invariant: the name comes from /proc/self/maps, so nothing has to be kept for it. A fault comes where mapped bytes are read, and
 * nothing that reads them holds a lock of the C library, so what is not async-signal-safe may be called, after the line is out.
 * Called by every program that reads bases and sessions.
 */
#include "cmd_bus.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "umlfs/scratch.h"

enum { CHUNK = 1024, WHAT_MAX = 32 };

/* A signal's action gets no argument of ours. */
static struct {
	const char *what;
	int status;
	char leftover[PATH_MAX]; /* "": none */
} on_bus;

/* A line of /proc/self/maps, see proc_pid_maps(5): "from-to perms offset device inode    path". */
struct line {
	uintptr_t bounds[2];
	unsigned int bound; /* that is being read; 2: behind them */
	size_t len;         /* of the path */
	char path[PATH_MAX];
};

static unsigned int hex(char c)
{
	return (unsigned int)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static void start_line(struct line *line)
{
	line->bound = 0;
	line->bounds[0] = 0;
	line->bounds[1] = 0;
	line->len = 0;
}

/* Takes the next character of a line. */
static void take(struct line *line, char c)
{
	if (line->bound < 2 && (c == '-' || c == ' '))
		line->bound++;
	else if (line->bound < 2)
		line->bounds[line->bound] = line->bounds[line->bound] << 4 | hex(c);
	else if ((c == '/' || line->len > 0) && line->len < sizeof(line->path))
		line->path[line->len++] = c;
}

/* Reads on to the end of the line of the mapping that the address is in. */
static bool find(int fd, uintptr_t address, struct line *line)
{
	char chunk[CHUNK];
	ssize_t n;

	start_line(line);
	while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (chunk[i] != '\n') {
				take(line, chunk[i]);
				continue;
			}
			if (address >= line->bounds[0] && address < line->bounds[1])
				return line->len > 0;
			start_line(line);
		}
	}
	return false;
}

static char *append(char *to, const char *text, size_t len)
{
	memcpy(to, text, len);
	return to + len;
}

static void say(const void *address)
{
	static const char start[] = "umlfs: ", unknown[] = "a mapped file",
			  why[] = ": cut short or unreadable while in use: ",
			  end[] = " has ended; `umlfs check` tells what is left\n";
	struct line line;
	char text[sizeof(start) + sizeof(line.path) + sizeof(why) + sizeof(end) + WHAT_MAX];
	char *to = append(text, start, sizeof(start) - 1);
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd >= 0 && find(fd, (uintptr_t)address, &line))
		to = append(to, line.path, line.len);
	else
		to = append(to, unknown, sizeof(unknown) - 1);
	to = append(to, why, sizeof(why) - 1);
	to = append(to, on_bus.what, strnlen(on_bus.what, WHAT_MAX));
	to = append(to, end, sizeof(end) - 1);
	n = write(STDERR_FILENO, text, (size_t)(to - text));
	(void)n; /* there is nobody else to tell */
}

static void end(int number, siginfo_t *info, void *context)
{
	(void)context;
	if (info->si_code <= 0) { /* kill(2): the action is the default's again */
		raise(number);
		return;
	}
	say(info->si_addr);
	if (on_bus.leftover[0])
		scratch_remove(on_bus.leftover, NULL);
	_exit(on_bus.status);
}

void cmd_bus_remove(const char *path)
{
	/* Empty while it is written. */
	on_bus.leftover[0] = '\0';
	if (path && strlen(path) < sizeof(on_bus.leftover))
		strcpy(on_bus.leftover, path);
}

void cmd_catch_bus(const char *what, int status)
{
	struct sigaction action = {.sa_sigaction = end, .sa_flags = (int)(SA_SIGINFO | SA_RESETHAND)};

	on_bus.what = what;
	on_bus.status = status;
	sigaction(SIGBUS, &action, NULL);
}
