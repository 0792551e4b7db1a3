/*
 * check_session: loads one state of a session after the other and has each looked over.
 * Invariant: while it looks, nothing on disk changes; a layer that cannot be loaded hides only what stands on it.
 * Called by check.
 */
#include "check_session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_content.h"
#include "check_index.h"
#include "check_mend.h"
#include "cleanup.h"
#include "io.h"

enum { MAX_FILES = 16 };

struct look {
	struct store *store; /* NULL until it is open */
	const char *label;
	const struct log *log;
	struct findings *findings;
	uint32_t loading; /* the layer being replayed; 0 while the session is opened */
	bool repair;
	char *line; /* the first error that a library call wrote since clear() */
};

static void clear(struct look *k)
{
	free(k->line);
	k->line = NULL;
}

/* A mount would do the same, and opening the session for a repair has done it. */
static void went_back(struct look *k)
{
	struct found *found = findings_add(k->findings, "manifest", findings_where("%s/manifest", k->label),
	                                   "the host went down before the last snapshot or reset was on disk: a mount "
	                                   "goes back to manifest.old, the state before it");

	found->shown.mendable = true;
	found->shown.mended = k->repair;
}

/* What the storage says. Its warnings are that it went back to manifest.old, and later a torn tail. */
static void collect(void *arg, enum log_level level, const char *line)
{
	struct look *k = arg;

	if (level == LOG_LEVEL_ERROR && !k->line)
		k->line = strdup(line);
	if (level == LOG_LEVEL_WARNING && k->loading == 0)
		went_back(k);
	else if (level == LOG_LEVEL_WARNING)
		found_mend(findings_add(
				   k->findings, "journal", findings_where("%s/layers/%u/journal", k->label, k->loading),
				   "ends in an operation that was cut short, and was never acknowledged as synced"),
		           MEND_CUT_TAIL);
}

static bool is_damage(int r)
{
	return r == -EUCLEAN || r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -EISDIR;
}

/* What a library call wrote, "where: what", as a finding. */
static void tell_line(struct look *k, const char *kind, const char *where)
{
	const char *line = k->line ? k->line : "";
	size_t skip = strlen(k->label);
	const char *colon = strlen(line) > skip ? strstr(line + skip, ": ") : NULL;

	if (colon)
		findings_add(k->findings, kind, findings_where("%.*s", (int)(colon - line), line), "%s", colon + 2);
	else
		findings_add(k->findings, kind, findings_where("%s", where), "cannot be read");
}

/* An error that is no damage: to whoever asked. */
static int fail(struct look *k, int r)
{
	return k->line ? log_error(k->log, r, "%s", k->line) : log_errno(k->log, r, "%s", k->label);
}

static char *state_of(const struct look *k, uint32_t layer)
{
	const struct manifest *m = &k->store->session.manifest;

	for (size_t i = 0; i < m->n_snapshots; i++) {
		if (m->snapshots[i].layer == layer)
			return findings_where("%s (snapshot %s)", k->label, m->snapshots[i].name);
	}
	return findings_where("%s", k->label);
}

static bool is_state(const struct manifest *m, uint32_t layer)
{
	const struct manifest_snapshot *standing = manifest_standing(m, layer);

	return m->top == layer || (standing && standing->layer == layer);
}

static bool stands_on(const struct manifest *m, uint32_t layer, uint32_t below)
{
	while (layer != 0 && layer != below)
		layer = manifest_layer(m, layer)->parent;
	return layer == below;
}

/* Every state that a layer takes down with it. */
static void tell_lost(struct look *k, uint32_t layer)
{
	const struct manifest *m = &k->store->session.manifest;

	for (size_t i = 0; i < m->n_layers; i++) {
		uint32_t id = m->layers[i].id;

		if (is_state(m, id) && stands_on(m, id, layer))
			findings_add(k->findings, "state", state_of(k, id),
			             id == m->top ? "cannot be mounted: layer %u cannot be loaded; `umlfs reset` to "
			                            "another snapshot or to @base drops what stands on it"
			                          : "cannot be gone back to: layer %u cannot be loaded",
			             layer);
	}
}

static int check_state(struct look *k, const struct manifest_layer *ml, const struct stack *stack)
{
	const struct manifest *m = &k->store->session.manifest;
	cleanup_free char *state = state_of(k, ml->id);
	struct check_content content = {
		.layer = stack_top(stack),
		.stack = stack,
		.host_cut = k->store->session.host_cut,
		.listed = ml,
		.label = k->label,
		.log = k->log,
		.findings = k->findings,
	};
	struct check_tree *tree = NULL;
	int r = state ? 0 : -ENOMEM;

	if (r == 0 && is_state(m, ml->id))
		r = check_tree(stack, state, ml->id == m->top, k->findings, &tree);
	if (r == -EUCLEAN) {
		findings_add(k->findings, "state", findings_where("%s", state),
		             "cannot be walked: %s/base.index is damaged", k->label);
		r = 0;
	}
	content.tree = tree;
	if (r == 0)
		r = check_content(&content);
	check_tree_free(tree);
	return r;
}

/* Every layer that stands on `parent`, whose own stack is `have`, NULL for the base. */
static int check_above(struct look *k, uint32_t parent, const struct stack *have)
{
	struct session *s = &k->store->session;
	const struct manifest *m = &s->manifest;
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->n_layers; i++) {
		const struct manifest_layer *ml = &m->layers[i];
		struct stack stack;
		char where[PATH_MAX];

		if (ml->parent != parent)
			continue;
		clear(k);
		k->loading = ml->id;
		r = session_load(s, m, ml->id, have, &stack);
		if (is_damage(r)) {
			snprintf(where, sizeof(where), "%s/layers/%u", k->label, ml->id);
			tell_line(k, "journal", where);
			tell_lost(k, ml->id);
			r = 0;
			continue;
		}
		if (r < 0)
			return fail(k, r);
		r = check_state(k, ml, &stack);
		if (r == 0)
			r = check_above(k, ml->id, &stack);
		session_unload(&stack, have);
	}
	return r;
}

static void check_layer_name(struct look *k, const char *name)
{
	char canonical[16];
	uint32_t layer = (uint32_t)strtoul(name, NULL, 10);
	struct found *found;

	snprintf(canonical, sizeof(canonical), "%u", layer);
	if (strcmp(canonical, name) == 0 && manifest_layer(&k->store->session.manifest, layer))
		return;
	found = findings_add(
		k->findings, "stray", findings_where("%s/layers/%s", k->label, name),
		strcmp(canonical, name) == 0 && layer != 0
			? "a layer that the manifest does not list: dropped, or left by a process that died"
			: "is no layer: their names are numbers");
	if (strcmp(canonical, name) != 0 || layer == 0)
		return;
	found_mend(found, MEND_REMOVE_LAYER);
	found->layer = layer;
}

static int check_layer_names(struct look *k)
{
	cleanup_dir DIR *dir = NULL;
	struct dirent *entry;
	int r = io_open_dir(k->store->session.layersfd, ".", &dir);

	if (r < 0)
		return log_errno(k->log, r, "%s/layers", k->label);
	while ((errno = 0, entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			check_layer_name(k, entry->d_name);
	}
	return errno ? log_errno(k->log, -errno, "%s/layers", k->label) : 0;
}

/* Temporary files of processes that died. */
static void check_leftovers(struct look *k)
{
	static const char *const names[] = {"manifest.new", "base.index.new"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (faccessat(k->store->session.dirfd, names[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			findings_leftover(k->findings, k->label, names[i]);
	}
}

/* The copy of the base's index: 0 when it can be used, 1 when not, -errno. */
static int check_copy(struct look *k, bool repair)
{
	struct session *s = &k->store->session;
	cleanup_free char *file = findings_where("%s/base.index", k->label);
	struct checksum_id id;
	struct found *found;
	int r = file ? store_load_base(k->store) : -ENOMEM;

	if (r < 0 && !is_damage(r))
		return fail(k, r);
	if (r < 0) {
		found = findings_add(k->findings, "index", findings_where("%s", file),
		                     "missing or damaged: a mount of the session with its base mends it");
	} else {
		id = index_id(s->base->index);
		if (id.low == s->manifest.base.low && id.high == s->manifest.base.high)
			return check_index(s->base->index, file, k->findings);
		found = findings_add(k->findings, "index", findings_where("%s", file),
		                     "is the index of another base: a mount of the session with its base mends it");
		base_free(s->base);
		s->base = NULL;
	}
	found->shown.mendable = true;
	if (repair && store_mend_base(k->store, k->log) == 0)
		found->shown.mended = true;
	if (s->base)
		return 0;
	findings_add(k->findings, "state", findings_where("%s", k->label),
	             "its layers cannot be looked at without the index of the base");
	return 1;
}

static int look_over(struct look *k, bool repair)
{
	int r = check_copy(k, repair);

	if (r < 0)
		return r;
	check_leftovers(k);
	k->store->session.purpose = SESSION_LOOK;
	if (r == 0)
		r = check_above(k, 0, NULL);
	if (r >= 0)
		r = check_layer_names(k);
	return r;
}

/* A session that does not even open: damage of the manifest, or of the folder of the layers. */
static int cannot_open(struct look *k, int r)
{
	cleanup_free char *layers = findings_where("%s/layers: ", k->label);

	if (layers && k->line && strncmp(k->line, layers, strlen(layers)) == 0 && is_damage(r))
		tell_line(k, "state", k->label);
	else if (r == -EUCLEAN)
		tell_line(k, "manifest", k->label);
	else
		return fail(k, r);
	return 0;
}

int check_session(const char *path, bool repair, const struct log *log, struct findings *findings)
{
	struct look k = {.label = path, .log = log, .findings = findings, .repair = repair};
	const struct log collector = {.write = collect, .arg = &k};
	const struct store_options options = {
		.session = path,
		.log = &collector,
		.max_files = MAX_FILES,
		.look = !repair,
	};
	int r = store_open(&options, &k.store);

	if (r < 0) {
		r = cannot_open(&k, r);
	} else {
		r = look_over(&k, repair);
		if (r == 0 && repair)
			r = check_mend(k.store, findings, log);
		store_close(k.store);
	}
	clear(&k);
	return r;
}
