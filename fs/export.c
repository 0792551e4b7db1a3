/*
 * export: owns the order of an export: open the state, write beside the name, put in place.
 * Invariant: until the last step the file's name means what it meant before.
 * Called by the program.
 */
#include "umlfs/export.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "export_layer.h"
#include "export_tar.h"
#include "format.h"
#include "snapshot.h"

/* The file to be, and the one beside it that is written. */
struct place {
	int fd;
	char *path, *temporary; /* NULL: what is there is written to */
};

static int add_file(void *arg, const char *path, const struct inode *inode, const char *first)
{
	return export_tar_add(arg, path, inode, first);
}

static int fail(const struct export_options *o, int r)
{
	return log_errno(o->log, r, "%s", o->file);
}

static int open_temporary(const struct export_options *o, struct place *p)
{
	cleanup_free char *real = realpath(o->file, NULL); /* not the link is replaced, but what it leads to */
	const char *path = real ? real : o->file;
	const char *slash = strrchr(path, '/');
	int dir_len = slash ? (int)(slash + 1 - path) : 0;
	mode_t mask;

	p->path = strdup(path);
	if (!p->path || asprintf(&p->temporary, "%.*s.exporting-XXXXXX", dir_len, path) < 0) {
		p->temporary = NULL;
		return fail(o, -ENOMEM);
	}
	p->fd = mkostemp(p->temporary, O_CLOEXEC);
	if (p->fd < 0) {
		int r = -errno;

		free(p->temporary);
		p->temporary = NULL;
		return fail(o, r);
	}
	if (o->temporary)
		o->temporary(p->temporary);
	mask = umask(0);
	umask(mask);
	return fchmod(p->fd, 0666 & ~mask) < 0 ? fail(o, -errno) : 0;
}

static int open_place(const struct export_options *o, struct place *p)
{
	struct stat st;

	if (strcmp(o->file, "-") == 0)
		p->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	else if (stat(o->file, &st) < 0 || S_ISREG(st.st_mode))
		return open_temporary(o, p);
	else
		p->fd = open(o->file, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	return p->fd < 0 ? fail(o, -errno) : 0;
}

static int commit(const struct export_options *o, struct place *p)
{
	cleanup_free char *path = p->temporary ? strdup(p->path) : NULL; /* dirname() cuts it */
	cleanup_fd int dir = -1;

	if (!p->temporary)
		return 0;
	if (!path)
		return fail(o, -ENOMEM);
	if (fsync(p->fd) < 0 || rename(p->temporary, p->path) < 0)
		return fail(o, -errno);
	free(p->temporary);
	p->temporary = NULL;
	/* It is there, and that is no failure any more. */
	dir = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fsync(dir) < 0)
		log_warning(o->log, "%s: is there, but its directory could not be synced: it may not outlive a crash",
		            o->file);
	return 0;
}

static void free_place(const struct export_options *o, struct place *p)
{
	if (p->temporary)
		unlink(p->temporary);
	if (o->temporary)
		o->temporary(NULL);
	close_fd(p->fd);
	free(p->temporary);
	free(p->path);
}

static int write_all(struct export_tar *tar, struct state *state)
{
	struct state_walk walk = {.state = state, .visit = add_file, .arg = tar};
	int r = state_walk_tree(&walk, "", FORMAT_ROOT_INO);

	state_walk_fini(&walk);
	return r;
}

static int write_archive(const struct export_options *o, int fd, struct state *from, struct state *state,
                         struct export_result *result)
{
	struct import_meter meter = {.tell = o->progress, .arg = o->progress_arg};
	struct export_tar *tar;
	int r = export_tar_new(fd, o, state, &meter, &tar);

	if (r < 0)
		return r;
	r = from ? export_layer(tar, from, state, o->log) : write_all(tar, state);
	if (r == 0)
		r = export_tar_end(tar, result);
	export_tar_free(tar);
	return meter.stopped ? -ECANCELED : r;
}

static int export_states(const struct export_options *o, struct states *states, const char *name,
                         struct export_result *result)
{
	struct place place = {.fd = -1};
	struct state *from = NULL, *state;
	int r = 0;

	if (o->layer)
		r = states_load(states, o->from ? o->from : SNAPSHOT_BASE, &from);
	if (r == 0)
		r = states_load(states, name, &state);
	if (r < 0)
		return r;
	r = open_place(o, &place);
	if (r == 0) {
		r = write_archive(o, place.fd, from, state, result);
		if (r < 0 && r != -ECANCELED)
			r = states_failed(states, r);
	}
	if (r == 0)
		r = commit(o, &place);
	free_place(o, &place);
	return r;
}

int export_run(const struct export_options *options, struct export_result *result)
{
	struct export_options watched = *options;
	struct states *states;
	const char *name;
	int r = export_tar_check_name(options);

	if (r == 0)
		r = states_open(options->source, options->log, &states, &name);
	if (r < 0)
		return r;
	watched.log = states_log(states);
	r = export_states(&watched, states, name, result);
	states_free(states);
	return r;
}
