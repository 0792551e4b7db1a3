/*
 * state: owns an open session that nobody changes through it, and the layers that are loaded.
 * Invariant: a state that was loaded stays what it is: its layers are sealed, or locked.
 * Called by diff, export and base_commit.
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "format.h"
#include "umlfs/control.h"

enum {
	MAX_FILES = 64,
	STATES_MAX = 2,
};

struct states {
	struct store *store;
	const struct log *log;
	struct log watched, of_store; /* write to log */
	bool said;                    /* an error was written */
	char *name;                   /* behind the '@' */
	uint32_t present;             /* the layer of the present state; 0: the base */
	uint32_t loading;             /* the layer that is being loaded, or 0 */
	struct state *loaded[STATES_MAX];
	unsigned int n;
};

static void pass_on(void *arg, enum log_level level, const char *line)
{
	struct states *s = arg;

	s->said = s->said || level == LOG_LEVEL_ERROR;
	if (s->log && s->log->write)
		s->log->write(s->log->arg, level, line);
}

/* True when layers that were loaded, or are to be, are not the session's any more: nothing keeps a daemon from a reset. */
static bool was_reset(const struct states *s)
{
	struct manifest m;
	bool gone;

	if ((s->n == 0 && !s->loading) || manifest_read(s->store->session.dirfd, "", NULL, &m) < 0)
		return false;
	gone = s->loading && !manifest_layer(&m, s->loading);
	for (unsigned int i = 0; i < s->n; i++) {
		const struct stack *stack = &s->loaded[i]->session.stack;

		gone = gone || (stack->n > 0 && !manifest_layer(&m, stack_top(stack)->id));
	}
	manifest_fini(&m);
	return gone;
}

/* What is missing because of a reset is for states_failed() to tell, which knows why. */
static void pass_on_of_store(void *arg, enum log_level level, const char *line)
{
	const struct states *s = arg;

	if (level != LOG_LEVEL_ERROR || !was_reset(s))
		pass_on(arg, level, line);
}

/* Cuts SESSION@NAME where a session is; the session's path on the heap. *name_out: NULL when there is no name. */
static int split(const char *what, char **path_out, char **name_out)
{
	const char *slash = strrchr(what, '/');

	if (!control_is_session(what)) {
		for (const char *at = strchr(slash ? slash : what, '@'); at; at = strchr(at + 1, '@')) {
			cleanup_free char *path = strndup(what, (size_t)(at - what));

			if (!path)
				return -ENOMEM;
			if (!control_is_session(path))
				continue;
			*name_out = strdup(at + 1);
			*path_out = take_ptr(&path);
			return *name_out ? 0 : -ENOMEM;
		}
	}
	*path_out = strdup(what);
	return *path_out ? 0 : -ENOMEM;
}

/* Not mounted. What a power cut left is put right first, as any command would. */
static int open_alone(const char *path, const struct log *log, struct store **out)
{
	struct store_options options = {.session = path, .log = log, .max_files = MAX_FILES, .look = true};
	int r = store_open(&options, out);

	if (r < 0 || !(*out)->session.host_cut)
		return r;
	store_close(*out);
	options.look = false;
	r = store_open(&options, out);
	if (r < 0)
		return r;
	r = store_load(*out);
	store_close(*out);
	options.look = true;
	return r < 0 ? r : store_open(&options, out);
}

static int open_store(struct states *s, const char *path)
{
	struct store_options live = {
		.session = path, .log = &s->of_store, .max_files = MAX_FILES, .look = true, .live = true};
	int r = control_seal(path, s->log, &s->present);
	bool mounted = r == 0;

	if (r < 0 && r != -ENOTCONN)
		return r;
	r = mounted ? store_open(&live, &s->store) : open_alone(path, &s->of_store, &s->store);
	if (r < 0)
		return r;
	if (!mounted)
		s->present = s->store->session.manifest.top;
	else if (s->present && !manifest_layer(&s->store->session.manifest, s->present))
		return log_error(s->log, -EBUSY, "%s: was reset at this moment: try again", path);
	return 0;
}

/* The base where it was last, unless it is not there any more, or another one. */
static int open_base(const struct states *s, int *treefd_out, struct index **index_out)
{
	const struct manifest *m = &s->store->session.manifest;
	cleanup_fd int treefd = open(m->base_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct index *index = NULL;
	struct checksum_id id;
	int r = treefd < 0 ? -errno : index_open(treefd, FORMAT_OWN_DIR "/index", m->base_path, NULL, &index);

	if (r == -ENOENT &&
	    treefd >= 0) { /* a plain directory: each file is compared with the copy when it is opened */
		*treefd_out = take_fd(&treefd);
		return 0;
	}
	if (r < 0)
		return r;
	id = index_id(index);
	if (id.low != m->base.low || id.high != m->base.high) {
		index_free(index);
		return -ESTALE;
	}
	*treefd_out = take_fd(&treefd);
	*index_out = index;
	return 0;
}

static int load_base(struct states *s)
{
	struct session *session = &s->store->session;
	struct index *index = NULL;
	struct base *base;
	int treefd = -1;
	int r;

	open_base(s, &treefd, &index);
	if (!index) {
		r = store_load_base(s->store);
		if (r == 0 && index_scanned(session->base->index))
			session->base->treefd = take_fd(&treefd);
		close_fd(treefd);
		return r;
	}
	r = base_new(index, treefd, session->manifest.base_path, &base);
	if (r < 0) {
		index_free(index);
		close_fd(treefd);
		return r;
	}
	base_free(session->base); /* of the copy: there when it was needed to tell which manifest holds */
	session->base = base;
	return 0;
}

int states_open(const char *what, const struct log *log, struct states **out, const char **name_out)
{
	struct states *s = calloc(1, sizeof(*s));
	cleanup_free char *path = NULL;
	int r = s ? 0 : -ENOMEM;

	if (r == 0)
		r = name_out ? split(what, &path, &s->name) : (path = strdup(what)) ? 0 : -ENOMEM;
	if (r < 0) {
		free(s);
		return log_errno(log, r, "%s", what);
	}
	s->log = log;
	s->watched = (struct log){.write = pass_on, .arg = s};
	s->of_store = (struct log){.write = pass_on_of_store, .arg = s};
	r = open_store(s, path);
	if (r == 0)
		r = load_base(s);
	if (r < 0) {
		states_free(s);
		return r;
	}
	if (name_out)
		*name_out = s->name;
	*out = s;
	return 0;
}

void states_free(struct states *s)
{
	if (!s)
		return;
	while (s->n > 0) {
		struct state *last = s->loaded[--s->n];

		session_unload(&last->session.stack, s->n > 0 ? &s->loaded[0]->session.stack : NULL);
		tree_fini(&last->tree);
		free(last);
	}
	if (s->store)
		store_close(s->store);
	free(s->name);
	free(s);
}

static int find_layer(const struct states *s, const char *name, uint32_t *layer_out)
{
	const struct manifest_snapshot *found;

	*layer_out = name ? 0 : s->present;
	if (!name || strcmp(name, SNAPSHOT_BASE) == 0)
		return 0;
	found = manifest_snapshot(&s->store->session.manifest, name);
	if (!found)
		return snapshot_missing(s->store->session.label, name, &s->watched);
	*layer_out = found->layer;
	return 0;
}

int states_load(struct states *s, const char *name, struct state **out)
{
	const struct stack *have = s->n > 0 ? &s->loaded[0]->session.stack : NULL;
	struct session *from = &s->store->session;
	struct state *state;
	uint32_t layer = 0;
	int r = find_layer(s, name, &layer);

	if (r < 0)
		return r;
	state = s->n < STATES_MAX ? calloc(1, sizeof(*state)) : NULL;
	if (!state)
		return log_errno(&s->watched, -ENOMEM, "%s", from->label);
	state->session = *from;
	state->session.stack = (struct stack){.base = from->base};
	s->loading = layer;
	if (layer != 0)
		r = session_load(&state->session, &from->manifest, layer, have, &state->session.stack);
	if (r < 0) {
		free(state);
		return states_failed(s, r);
	}
	s->loading = 0;
	tree_init(&state->tree, &state->session);
	s->loaded[s->n++] = state;
	*out = state;
	return 0;
}

const char *states_standing(const struct states *s)
{
	const struct manifest *m = &s->store->session.manifest;
	const struct manifest_snapshot *found = s->present ? manifest_standing(m, s->present) : NULL;

	return found ? found->name : SNAPSHOT_BASE;
}

int states_fd(const struct states *s)
{
	return s->store->session.dirfd;
}

const struct log *states_log(const struct states *s)
{
	return &s->watched;
}

int states_failed(const struct states *s, int r)
{
	if (was_reset(s))
		return log_error(s->log, r, "%s: was reset, or a snapshot deleted, while it was read: try again",
		                 s->store->session.label);
	return s->said ? r : log_errno(s->log, r, "%s: cannot be read", s->store->session.label);
}
