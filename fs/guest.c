/*
 * guest: brings a running guest to rest and lets it go on.
 *
 * A sync in a guest says nothing about what is written after it, and a stopped kernel writes nothing. So: sync, stop,
 * count the dirty pages, and begin again while there are any. A guest of `umlfs run` freezes its command first and is
 * at rest at once; being asked is its Ctrl-Alt-Del, and a lock tells how far it is: a console can read few files of /proc.
 *
 * Invariant: whatever fails, the guest has been told to go on before guest_stop() answers.
 * Called by the program's commands.
 */
#include "umlfs/guest.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "mconsole.h"

enum { REST_MS = 10000, LOOK_MS = 2, SYNC_MS = 10 };

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void wait_ms(int ms)
{
	const struct timespec time = {.tv_nsec = ms * 1000000L};

	nanosleep(&time, NULL);
}

/* ~/.uml/UMID/mconsole, where kernels without uml_dir= put it. On the heap. */
static char *usual_socket(const char *umid)
{
	const char *home = getenv("HOME");
	char *path;

	return asprintf(&path, "%s/.uml/%s/mconsole", home ? home : "", umid) < 0 ? NULL : path;
}

/* The value of a word of a command line, whose words end with NUL. */
static const char *word_of(const char *line, size_t len, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = line; at < line + len; at += strlen(at) + 1) {
		if (strncmp(at, name, n) == 0)
			return at + n;
	}
	return NULL;
}

/* The socket of the process, when it is a kernel with this umid. On the heap, or NULL. */
static char *socket_of(const char *pid, const char *umid)
{
	char path[64], line[8192] = "";
	const char *id, *dir;
	char *found;
	size_t len;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
	file = fopen(path, "re");
	if (!file)
		return NULL;
	len = fread(line, 1, sizeof(line) - 1, file);
	fclose(file);
	id = word_of(line, len, "umid=");
	dir = word_of(line, len, "uml_dir=");
	if (!id || strcmp(id, umid) != 0 || !dir)
		return NULL;
	if (asprintf(&found, "%s%.20s%s%s/%s/mconsole", *dir == '/' ? "" : "/proc/", *dir == '/' ? "" : pid,
	             *dir == '/' ? "" : "/cwd/", dir, umid) < 0)
		return NULL;
	return found;
}

/* Looks through the processes. On the heap, or NULL. */
static char *running_socket(const char *umid)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	char *found = NULL;

	while (proc && !found && (entry = readdir(proc))) {
		if (isdigit((unsigned char)entry->d_name[0]))
			found = socket_of(entry->d_name, umid);
	}
	if (proc)
		closedir(proc);
	return found;
}

/* A path of the user's: the socket, or the directory with it. On the heap. */
static char *given_socket(const char *path)
{
	struct stat st;
	char *found;

	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return strdup(path);
	return asprintf(&found, "%s/mconsole", path) < 0 ? NULL : found;
}

static int failed(const struct guest *g, int r, const char *what, const struct log *log)
{
	if (r == -ETIMEDOUT)
		return log_error(log, r, "guest %s: does not answer: is it still booting, or stopped?", g->name);
	return log_errno(log, r, "guest %s: %s", g->name, what);
}

/* Asks and forgets the answer. */
static int tell(const struct guest *g, const char *command, const struct log *log)
{
	cleanup_free char *text = NULL;
	int r = mconsole_ask(g->fd, command, &text);

	if (r == -EPROTO)
		return log_error(log, r, "guest %s: refuses to %s: %s", g->name, command, text);
	return r < 0 ? failed(g, r, command, log) : 0;
}

/* True when the byte of a file is locked in the guest. */
static int is_locked(const struct guest *g, int byte, bool *out)
{
	cleanup_free char *text = NULL;
	char range[32];
	int r = mconsole_ask(g->fd, "proc locks", &text);

	if (r < 0 && r != -EPROTO)
		return r;
	snprintf(range, sizeof(range), " %d %d\n", byte, byte);
	*out = r == 0 && strstr(text, range);
	return 0;
}

int guest_open(const char *umid, const struct log *log, struct guest *out)
{
	struct guest g = {.fd = -1, .name = umid};
	cleanup_free char *path = strchr(umid, '/') ? given_socket(umid) : usual_socket(umid);
	int r = path ? mconsole_connect(path, &g.fd) : -ENOMEM;

	if (r < 0 && r != -ECONNREFUSED && !strchr(umid, '/')) {
		free(path);
		path = running_socket(umid);
		r = path ? mconsole_connect(path, &g.fd) : -ENOENT;
	}
	if (r == -ENOENT)
		return log_error(log, r, "guest %s: there is none: `umlfs run -v` says which umid its guest has", umid);
	if (r == -ECONNREFUSED)
		return log_error(log, r, "guest %s: has ended", umid);
	if (r == 0)
		r = is_locked(&g, UMLFS_FREEZES, &g.ours);
	if (r < 0) {
		guest_close(&g);
		return failed(&g, r, "its console", log);
	}
	*out = g;
	return 0;
}

/* The value of a line of vmstat. */
static unsigned long count(const char *vmstat, const char *name)
{
	const char *at = strstr(vmstat, name);

	return at ? strtoul(at + strlen(name), NULL, 10) : 0;
}

/* Of the stopped guest: how many pages the host does not have yet. */
static int count_dirty(const struct guest *g, unsigned long *out, const struct log *log)
{
	cleanup_free char *text = NULL;
	int r = mconsole_ask(g->fd, "proc vmstat", &text);

	if (r < 0)
		return failed(g, r, "its memory's state cannot be read", log);
	*out = count(text, "nr_dirty ") + count(text, "nr_writeback ");
	return 0;
}

/* Asks the first process, and returns when its command is frozen and everything is written, or is frozen no more. */
static int set_frozen(struct guest *g, bool frozen, const struct log *log)
{
	int64_t deadline = now_ms() + REST_MS;
	int r = tell(g, "cad", log);
	bool locked = !frozen;

	g->frozen = r == 0 && frozen;
	while (r == 0 && locked != frozen) {
		r = is_locked(g, UMLFS_FROZEN, &locked);
		if (r < 0)
			return failed(g, r, "its locks", log);
		if (locked != frozen && now_ms() > deadline)
			return log_error(log, -EBUSY, "guest %s: a process in it does not come to rest: try again",
			                 g->name);
		if (locked != frozen)
			wait_ms(LOOK_MS);
	}
	return r;
}

/* Stops it. 0 when it may stay so, 1 when pages are dirty. */
static int try_stop(struct guest *g, const struct log *log)
{
	unsigned long dirty = 0;
	int r = tell(g, "stop", log);

	if (r < 0)
		return r;
	g->stopped = true;
	r = count_dirty(g, &dirty, log);
	return r < 0 ? r : dirty > 0;
}

static int stop(struct guest *g, const struct log *log)
{
	int64_t deadline = now_ms() + REST_MS;
	int r = g->ours ? set_frozen(g, true, log) : 0;

	for (int ms = SYNC_MS; r == 0; ms = ms < 100 ? ms * 2 : ms) {
		if (!g->ours) {
			r = tell(g, "sysrq s", log);
			wait_ms(ms); /* for the sync, which does not tell its end */
		}
		r = r < 0 ? r : try_stop(g, log);
		if (r <= 0)
			return r;
		r = guest_go_on(g, log);
		if (r == 0 && (g->ours || now_ms() > deadline))
			r = log_error(log, -EBUSY,
			              "guest %s: changes through shared mappings stay in its memory: msync(2) them, or "
			              "pause what makes them",
			              g->name);
	}
	return r;
}

int guest_stop(struct guest *guest, const struct log *log)
{
	int r = stop(guest, log);

	if (r < 0)
		guest_go_on(guest, NULL);
	return r;
}

int guest_go_on(struct guest *guest, const struct log *log)
{
	int r = guest->stopped ? tell(guest, "go", log) : 0;

	guest->stopped = false;
	if (r == 0 && guest->frozen)
		r = set_frozen(guest, false, log); /* to the end: two that come at once count as one */
	guest->frozen = false;
	return r;
}

void guest_close(struct guest *guest)
{
	if (guest->fd >= 0)
		close(guest->fd);
	guest->fd = -1;
}
