/*
 * base_commit: owns nothing; carries a state's files to an import's target.
 * Invariant: the base is the one that an import of an export of the state would make, sockets besides.
 * Called by the program.
 */
#include "umlfs/base_commit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "format.h"
#include "import_meter.h"
#include "import_place.h"
#include "import_target.h"
#include "standing.h"
#include "state_walk.h"

enum { CHUNK = 256 << 10 };

struct base_commit {
	const struct base_commit_options *o;
	struct state *state;
	struct import_report report;
	struct import_meter meter;
	struct import_target *target;
	unsigned char *chunk;
};

static int copy_stretch(struct base_commit *c, const struct import_member *m, uint64_t ino, uint64_t from, uint64_t to)
{
	int r = 0;

	while (r == 0 && from < to) {
		uint64_t want = to - from < CHUNK ? to - from : CHUNK;
		ssize_t n = tree_read(&c->state->tree, ino, c->chunk, (size_t)want, from);

		if (n < 0)
			return (int)n;
		memset(c->chunk + n, 0, (size_t)want - (size_t)n);
		r = import_target_write(c->target, m, c->chunk, (size_t)want, from);
		c->meter.now.bytes += want;
		if (r == 0)
			r = import_meter_work(&c->meter, 2 * want);
		from += want;
	}
	return r;
}

/* The bytes of a file that is as it was imported, without reading them: 1 when there is no such way. */
static int share(struct base_commit *c, const struct import_member *m, const struct inode *i)
{
	const struct index *ix = c->state->session.base->index;
	struct index_content content;
	int fd;
	int r;

	if (i->content_layer != CONTENT_BASE || i->size == 0)
		return 1;
	r = index_content(ix, i->ino, &content);
	if (r < 0 || content.checksum == 0 || content.size != i->size)
		return r < 0 ? r : 1;
	fd = session_content(&c->state->session, i);
	if (fd < 0)
		return fd;
	r = import_target_clone(c->target, m, fd, i->size, content.checksum);
	c->meter.now.bytes += i->size;
	return r < 0 ? r : import_meter_work(&c->meter, i->size);
}

static int copy_content(struct base_commit *c, const struct import_member *m, const struct inode *i)
{
	uint64_t at = 0, data, end;
	int r = share(c, m, i);

	if (r <= 0)
		return r;
	while ((r = state_next_data(c->state, i, at, &data, &end)) > 0) {
		r = copy_stretch(c, m, i->ino, data, end);
		if (r < 0)
			return r;
		at = end;
	}
	return r < 0 ? r : import_target_end(c->target, m, i->size);
}

static int add_file(void *arg, const char *path, const struct inode *i, const char *first)
{
	struct base_commit *c = arg;
	const struct stack *stack = &c->state->session.stack;
	struct import_member m = {
		.name = *path ? path : ".",
		.path = (char *)(uintptr_t)path,
		.len = strlen(path),
		.mode = i->mode,
		.uid = i->uid,
		.gid = i->gid,
		.rdev = i->rdev,
		.mtime = i->mtime,
		.ctime = i->ctime,
	};
	int r = 0;

	if (strcmp(path, FORMAT_OWN_DIR) == 0)
		return import_report(&c->report, path, -EPERM,
		                     "this is the name of umlfs's own folder: no base can hold it");
	if (first) {
		r = import_target_link(c->target, &m, first, strlen(first));
		return r < 0 ? r : import_meter_entry(&c->meter);
	}
	if (S_ISLNK(i->mode))
		r = stack_target(stack, i->ino, &m.target, &m.target_len);
	if (r == 0)
		r = stack_xattrs(stack, i->ino, &m.xattrs);
	if (r == 0)
		r = import_target_add(c->target, &m);
	if (r == 0 && S_ISREG(i->mode))
		r = copy_content(c, &m, i);
	return r < 0 ? r : import_meter_entry(&c->meter);
}

static int fill(struct base_commit *c, int root, struct import_result *result)
{
	struct state_walk walk = {.state = c->state, .visit = add_file, .arg = c};
	int r = import_target_new(root, &c->report, &c->target);

	c->chunk = malloc(CHUNK);
	if (r == 0 && !c->chunk)
		r = -ENOMEM;
	if (r == 0)
		r = state_walk_tree(&walk, "", FORMAT_ROOT_INO);
	if (r == 0)
		r = import_target_index(c->target, result);
	if (r == 0)
		r = import_meter_tell(&c->meter);
	state_walk_fini(&walk);
	import_target_free(c->target);
	free(c->chunk);
	return r;
}

/* A base inside the session, or the session inside the base, would be a part of itself. */
static int check_place(const struct states *states, const struct import_place *place, const struct log *log)
{
	if (!import_place_touches(place, states_fd(states)))
		return 0;
	return log_error(log, -EINVAL,
	                 "the base cannot lie inside the session, nor the session inside the base: give "
	                 "the base another place");
}

static void tell_temporary(const struct base_commit *c, const struct import_place *place)
{
	cleanup_free char *path = c->o->temporary ? import_place_temporary(place) : NULL;

	if (path)
		c->o->temporary(path);
}

static int make(struct base_commit *c, struct states *states, const char *name, struct import_place *place,
                struct import_result *result)
{
	int r = states_load(states, name, &c->state);
	int root;

	if (r == 0)
		r = check_place(states, place, c->report.log);
	if (r < 0)
		return r;
	root = import_place_begin(place);
	if (root < 0)
		return root;
	tell_temporary(c, place);
	r = fill(c, root, result);
	if (c->meter.stopped)
		return -ECANCELED;
	if (r < 0)
		return states_failed(states, r);
	/* From here on it may be the name of what is replaced. */
	if (c->o->temporary)
		c->o->temporary(NULL);
	return import_place_commit(place);
}

/* The base that is to be replaced may not be the session's own. */
static int check_own(const struct base_commit_options *o, const struct states *states, const struct log *log)
{
	cleanup_fd int dirfd = open(o->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct standing_base base = {.fd = dirfd, .instead = -1, .label = o->base};

	return dirfd < 0 ? 0 : standing_check_session(&base, states_fd(states), o->source, log);
}

int base_commit_run(const struct base_commit_options *options, struct import_result *result)
{
	struct base_commit c = {.o = options, .meter = {.tell = options->progress, .arg = options->progress_arg}};
	struct import_place *place = NULL;
	struct import_result made;
	struct states *states;
	const char *name;
	int r = states_open(options->source, options->log, &states, &name);

	if (r < 0)
		return r;
	c.report = (struct import_report){.log = states_log(states), .source = options->source, .between = ": "};
	if (options->force)
		r = check_own(options, states, states_log(states));
	if (r == 0)
		r = import_place_new(options->base, options->force, states_log(states), &place);
	if (r == 0)
		r = make(&c, states, name, place, &made);
	import_place_free(place);
	if (options->temporary)
		options->temporary(NULL);
	states_free(states);
	if (r == 0)
		*result = made;
	return r;
}
