/*
 * request: one function for each kind of request.
 * Invariant: the same code answers for a daemon and for a command on a session that is not mounted.
 * Called by control, and by serve_control for a daemon.
 */
#include "request.h"

#include <errno.h>
#include <inttypes.h>

#include "merge.h"

/* Adds up the layers from `id` down to the next snapshot below, which *parent_out gets (0: the base). */
static void add_up(const struct manifest *m, uint32_t id, uint32_t *parent_out, uint64_t *changes, uint64_t *bytes)
{
	do {
		const struct manifest_layer *layer = manifest_layer(m, id);
		const struct manifest_snapshot *below = manifest_standing(m, layer->parent);

		*changes += layer->changes;
		*bytes += layer->bytes;
		id = layer->parent;
		if (!below || below->layer == id) {
			*parent_out = below ? id : 0;
			if (below)
				return;
		}
	} while (id != 0);
}

static void list_snapshot(const struct manifest *m, const struct manifest_snapshot *snapshot, FILE *out)
{
	const struct manifest_snapshot *standing = manifest_standing(m, m->top);
	uint64_t changes = 0, bytes = 0;
	uint32_t parent = 0;

	add_up(m, snapshot->layer, &parent, &changes, &bytes);
	fprintf(out, "snapshot %" PRIu32 " %" PRIu32 " %" PRId64 " %" PRIu64 " %" PRIu64 " %d %s\n", snapshot->layer,
	        parent, snapshot->time, changes, bytes, standing && standing->layer == snapshot->layer, snapshot->name);
}

/* What changed since the snapshot that the session stands on. */
static void since_snapshot(const struct store *store, uint32_t *parent_out, uint64_t *changes, uint64_t *bytes)
{
	const struct session *s = &store->session;

	add_up(&s->manifest, s->manifest.top, parent_out, changes, bytes);
	if (!store->loaded)
		return;
	*changes += layer_changes(stack_top(&s->stack));
	*bytes += stack_top(&s->stack)->bytes;
}

static int list(struct store *store, FILE *out)
{
	const struct manifest *m = &store->session.manifest;
	uint64_t changes = 0, bytes = 0;
	uint32_t parent = 0;
	int r = store_load(store); /* a damaged layer is in the log; the snapshots are listed all the same */

	for (size_t i = 0; i < m->n_snapshots; i++)
		list_snapshot(m, &m->snapshots[i], out);
	since_snapshot(store, &parent, &changes, &bytes);
	fprintf(out, "session %" PRIu32 " %" PRIu64 " %" PRIu64 "\n", parent, changes, bytes);
	return r;
}

void request_print_path(FILE *out, const char *key, const char *value)
{
	fprintf(out, "%s ", key);
	for (; *value; value++)
		fprintf(out, (unsigned char)*value < ' ' || *value == '%' ? "%%%02X" : "%c", (unsigned char)*value);
	putc('\n', out);
}

static int status(struct store *store, FILE *out)
{
	const struct session *s = &store->session;
	const struct manifest_snapshot *standing = manifest_standing(&s->manifest, s->manifest.top);
	uint64_t changes = 0, bytes = 0;
	uint32_t parent = 0;
	int r = store_load(store);

	since_snapshot(store, &parent, &changes, &bytes);
	request_print_path(out, "base", s->manifest.base_path);
	fprintf(out, "standing %s\nchanges %" PRIu64 "\nbytes %" PRIu64 "\n", standing ? standing->name : SNAPSHOT_BASE,
	        changes, bytes);
	fprintf(out, "files %u\n", handles_count(s->handles));
	return r;
}

/* Without a daemon, layers are joined at once; with one, when the session is mounted next. */
static int delete_snapshot(struct store *store, const char *name, const struct log *log,
                           struct snapshot_change *change_out)
{
	int r = snapshot_delete(store, name, log, change_out);

	if (r == 0 && !store->loaded && store_load_base(store) == 0)
		merge_layers(store);
	return r;
}

static int seal(struct store *store, const struct log *log, FILE *out, struct snapshot_change *change_out)
{
	uint32_t layer;
	int r = snapshot_seal(store, log, &layer, change_out);

	if (r == 0)
		fprintf(out, "layer %" PRIu32 "\n", layer);
	return r;
}

bool request_ends_state(const struct request *request)
{
	return request->kind == REQUEST_SNAPSHOT || request->kind == REQUEST_RESET || request->kind == REQUEST_SEAL;
}

int request_run(struct store *store, const struct request *request, const struct log *log, FILE *out,
                struct snapshot_change *change_out)
{
	*change_out = (struct snapshot_change){0};
	switch (request->kind) {
	case REQUEST_SNAPSHOT:
		return snapshot_create(store, request->name ? request->name : "", log, change_out);
	case REQUEST_RESET:
		return snapshot_reset(store, request->name, log, change_out);
	case REQUEST_DELETE:
		return delete_snapshot(store, request->name ? request->name : "", log, change_out);
	case REQUEST_LIST:
		return list(store, out);
	case REQUEST_STATUS:
		return status(store, out);
	case REQUEST_SEAL:
		return seal(store, log, out, change_out);
	}
	return -EINVAL;
}
