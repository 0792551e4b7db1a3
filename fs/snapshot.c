/*
 * snapshot: seals, drops and names layers.
 * Invariant: everything that can fail comes before the new manifest; after it the change only has to be taken
 * over in memory.
 * Called by request; control and serve_control clean up.
 */
#include "snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "format.h"
#include "io.h"

int snapshot_missing(const char *session, const char *name, const struct log *log)
{
	if (*name == '\0')
		return log_error(log, -ENOENT, "the name of a snapshot of %s is empty: `umlfs list %s` lists them",
		                 session, session);
	return log_error(log, -ENOENT, "%s: no such snapshot of %s: `umlfs list %s` lists them", name, session,
	                 session);
}

int snapshot_check_name(const char *name, const struct log *log)
{
	if (*name == '\0')
		return log_error(log, -EINVAL, "the name: a snapshot's name may not be empty");
	if (strlen(name) > FORMAT_NAME_MAX)
		return log_error(log, -EINVAL, "%.32s...: a snapshot's name may have %d bytes at most", name,
		                 FORMAT_NAME_MAX);
	if (*name == '-' || *name == '@')
		return log_error(log, -EINVAL, "%s: a snapshot's name may not begin with '%c'", name, *name);
	for (const char *c = name; *c; c++) {
		if (*c == '/' || (unsigned char)*c < ' ' || *c == 0x7f)
			return log_error(log, -EINVAL, "%s: a snapshot's name may hold no '/' and no control character",
			                 name);
	}
	return 0;
}

/* Closes the top layer's runs of writes, and tells what the manifest says of a sealed layer. */
static int close_top(struct session *s, struct manifest_layer *ml)
{
	const struct layer *top = stack_top(&s->stack);
	int r = session_settle(s);

	if (r < 0)
		return r;
	journal_release(top->journal); /* room for the next layer and the manifest on a full disk */
	ml->sealed = journal_size(top->journal);
	ml->changes = layer_changes(top);
	ml->bytes = top->bytes;
	return 0;
}

/* Adds an empty layer on `parent` to the manifest, as its top, and to the disk. */
static int add_top(struct session *s, struct manifest *m, uint32_t parent)
{
	int r = m->next_layer < FORMAT_LAYERS_END ? manifest_add_layer(m, m->next_layer, parent) : -ENOSPC;

	if (r < 0)
		return r;
	m->top = m->next_layer++;
	m->next_ino = s->next_ino;
	m->next_serial = s->next_serial;
	session_finish_removals(s); /* on a full disk that is the room for it */
	return layer_create(s->layersfd, m->top);
}

/* On a full disk, what the top layer's journal keeps is room for a manifest and a layer. */
static void make_room(struct session *s)
{
	if (s->stack.n > 0)
		journal_release(stack_top(&s->stack)->journal);
}

static void keep_room(struct session *s)
{
	if (s->stack.n > 0)
		journal_hold(stack_top(&s->stack)->journal, stack_top(&s->stack)->owed);
}

/* Seals the top layer, under a name if one is given, and puts an empty one on it. The layers are loaded. */
static int seal_top(struct store *store, const char *name, const struct log *log, struct snapshot_change *out)
{
	struct session *s = &store->session;
	struct manifest m = {0};
	struct stack stack = {0};
	uint32_t sealed = s->manifest.top;
	int r = manifest_copy(&s->manifest, &m);

	if (r == 0)
		r = close_top(s, manifest_layer(&m, sealed));
	if (r == 0 && name)
		r = manifest_add_snapshot(&m, sealed, (int64_t)time(NULL), name);
	if (r == 0)
		r = add_top(s, &m, sealed);
	if (r == 0)
		r = session_load(s, &m, m.top, &s->stack, &stack);
	if (r == 0)
		r = store_commit(store, &m, true);
	if (r < 0) {
		session_unload(&stack, &s->stack);
		manifest_fini(&m);
		store_remove_dropped(s);
		return log_errno(log, r, name ? "%s: no snapshot was made" : "%s: cannot be sealed", s->label);
	}
	layer_discount_dead(stack_top(&s->stack));
	layer_seal(stack_top(&s->stack));
	session_unload(&s->stack, &stack);
	s->stack = stack;
	keep_room(s);
	*out = (struct snapshot_change){.nr = commit_made(&s->commit), .top = s->manifest.top};
	return 0;
}

int snapshot_create(struct store *store, const char *name, const struct log *log, struct snapshot_change *out)
{
	int r = snapshot_check_name(name, log);

	if (r < 0)
		return r;
	if (manifest_snapshot(&store->session.manifest, name))
		return log_error(log, -EEXIST, "%s: there is a snapshot of this name: take another, or delete it first",
		                 name);
	r = store_load(store);
	return r < 0 ? r : seal_top(store, name, log, out); /* both said why */
}

int snapshot_seal(struct store *store, const struct log *log, uint32_t *layer_out, struct snapshot_change *out)
{
	struct session *s = &store->session;
	uint32_t top = s->manifest.top;
	int r = store_load(store);

	if (r == 0 && layer_changes(stack_top(&s->stack)) == 0) {
		*layer_out = manifest_layer(&s->manifest, top)->parent;
		*out = (struct snapshot_change){.nr = commit_made(&s->commit), .top = top};
		return 0;
	}
	if (r == 0)
		r = seal_top(store, NULL, log, out);
	if (r == 0)
		*layer_out = top;
	return r;
}

/* The layer that a reset goes back to: 0 for the base. */
static int find_target(const struct session *s, const char *name, uint32_t *layer_out, const struct log *log)
{
	const struct manifest *m = &s->manifest;
	const struct manifest_snapshot *found;

	if (!name || strcmp(name, SNAPSHOT_BASE) == 0) {
		found = name ? NULL : manifest_standing(m, m->top);
		*layer_out = found ? found->layer : 0;
		return 0;
	}
	found = manifest_snapshot(m, name);
	if (!found)
		return snapshot_missing(s->label, name, log);
	*layer_out = found->layer;
	return 0;
}

static void drop_top(struct manifest *m)
{
	struct manifest_layer *old = manifest_layer(m, m->top);

	m->n_layers--;
	memmove(old, old + 1, (size_t)(m->layers + m->n_layers - old) * sizeof(*old));
}

/* The layers of a that are not in b, leaving out the last `skip` of a. */
static int only_in(const struct stack *a, const struct stack *b, unsigned int skip, struct layer ***out,
                   unsigned int *n_out)
{
	struct layer **list = calloc(a->n + 1, sizeof(struct layer *));
	unsigned int n = 0;

	if (!list)
		return -ENOMEM;
	for (unsigned int i = 0; i + skip < a->n; i++) {
		if (stack_layer(b, a->layers[i]->id) != a->layers[i])
			list[n++] = a->layers[i];
	}
	*out = list;
	*n_out = n;
	return 0;
}

static uint64_t pass_over(uint64_t number)
{
	const uint64_t many = UINT64_C(1) << 32;

	return number < FORMAT_NUMBERS_END - many ? number + many : FORMAT_NUMBERS_END;
}

/*
 * A session that was opened for this command alone may be reset although its layers are damaged: they are
 * what the reset drops. Numbers that they may have used are passed over.
 */
static int load_what_can_be(struct store *store, struct manifest *m, const struct log *log)
{
	struct session *s = &store->session;
	struct log loud = s->log;
	int r;

	s->log = (struct log){0};
	r = store_load(store);
	s->log = loud;
	if (r == 0)
		return 0;
	if ((r != -EUCLEAN && r != -ENOENT) || !s->base)
		return store_load(store); /* it says why this time */
	log_warning(log, "%s: damaged layers are left out", s->label);
	s->next_ino = pass_over(s->next_ino > m->next_ino ? s->next_ino : m->next_ino);
	s->next_serial = pass_over(s->next_serial > m->next_serial ? s->next_serial : m->next_serial);
	return 0;
}

/* The layers of `before` that `after` has not. */
static int list_dropped(const struct manifest *before, const struct manifest *after, struct snapshot_change *change)
{
	change->dropped = calloc(before->n_layers + 1, sizeof(*change->dropped));
	if (!change->dropped)
		return -ENOMEM;
	for (size_t i = 0; i < before->n_layers; i++) {
		if (!manifest_layer(after, before->layers[i].id))
			change->dropped[change->n_dropped++] = before->layers[i].id;
	}
	return 0;
}

static void free_change(struct snapshot_change *change)
{
	free(change->gone);
	free(change->come);
	free(change->dropped);
	*change = (struct snapshot_change){0};
}

/* The manifest and the stack after a reset to this layer, and what it changes; nothing is committed yet. */
static int plan_reset(struct session *s, uint32_t target, struct manifest *m, struct stack *stack,
                      struct snapshot_change *change)
{
	int r;

	make_room(s);
	drop_top(m);
	r = add_top(s, m, target);
	if (r < 0)
		return r;
	manifest_prune(m);
	r = session_load(s, m, m->top, &s->stack, stack);
	if (r == 0)
		r = only_in(&s->stack, stack, 0, &change->gone, &change->n_gone);
	if (r == 0)
		r = only_in(stack, &s->stack, 1, &change->come, &change->n_come);
	return r < 0 ? r : list_dropped(&s->manifest, m, change);
}

int snapshot_reset(struct store *store, const char *name, const struct log *log, struct snapshot_change *out)
{
	struct session *s = &store->session;
	struct snapshot_change change = {0};
	struct stack stack = {0};
	struct manifest m = {0};
	uint32_t target = 0;
	int r = find_target(s, name, &target, log);

	if (r < 0)
		return r;
	r = load_what_can_be(store, &s->manifest, log);
	if (r < 0)
		return r; /* it said why */
	r = manifest_copy(&s->manifest, &m);
	if (r == 0)
		r = plan_reset(s, target, &m, &stack, &change);
	if (r == 0)
		r = store_commit(store, &m, false);
	if (r < 0) {
		free_change(&change);
		session_unload(&stack, &s->stack);
		manifest_fini(&m);
		store_remove_dropped(s);
		return log_errno(log, r, "%s: was not reset", s->label);
	}
	for (unsigned int i = 0; i < change.n_gone; i++)
		handles_drop_layer(s->handles, change.gone[i]->id);
	free(s->stack.layers);
	s->stack = stack;
	keep_room(s);
	s->n_dirty = 0;
	store->loaded = true;
	change.nr = commit_made(&s->commit);
	change.top = s->manifest.top;
	*out = change;
	return 0;
}

int snapshot_delete(struct store *store, const char *name, const struct log *log, struct snapshot_change *out)
{
	struct session *s = &store->session;
	struct manifest_snapshot *found = manifest_snapshot(&s->manifest, name);
	struct snapshot_change change = {0};
	struct manifest m = {0};
	int r;

	if (!found)
		return snapshot_missing(s->label, name, log);
	make_room(s);
	r = manifest_copy(&s->manifest, &m);
	if (r == 0) {
		manifest_remove_snapshot(&m, (size_t)(found - s->manifest.snapshots));
		manifest_prune(&m);
		r = list_dropped(&s->manifest, &m, &change);
	}
	if (r == 0)
		r = store_commit(store, &m, false);
	if ((r == -ENOSPC || r == -EDQUOT) && s->stack.n == 0 && store_load(store) == 0) {
		make_room(s); /* of a session that was not loaded for this */
		r = store_commit(store, &m, false);
	}
	keep_room(s);
	if (r < 0) {
		free_change(&change);
		manifest_fini(&m);
		return log_errno(log, r, "%s: was not deleted", name);
	}
	change.nr = commit_made(&s->commit);
	change.top = s->manifest.top;
	*out = change;
	return 0;
}

int snapshot_clean_up(struct session *s, struct snapshot_change *change)
{
	int r;

	for (unsigned int i = 0; i < change->n_gone; i++)
		layer_free(change->gone[i]);
	commit_drop(&s->commit, change->dropped, change->n_dropped);
	r = commit_sync(&s->commit, s->dirfd, s->layersfd, change->nr, change->top);
	commit_delete(&s->commit, s->layersfd);
	free_change(change);
	return r;
}
