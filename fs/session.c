/*
 * session: owns the loaded layers and changes the top one.
 * Invariant: the top layer's maps are what its journal says; a record names only content that exists.
 * Called by tree for operations and by snapshot for whole layers.
 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "content.h"
#include "format.h"
#include "io.h"
#include "mark.h"

enum { CLEAN_EFFECTS = 2, BYTES_PER_INODE = 128, EXPECTED_MAX = 1 << 20 };

uint64_t session_new_ino(struct session *s)
{
	return s->next_ino < FORMAT_NUMBERS_END ? s->next_ino++ : 0;
}

/* Tells an effect that asked for it what lies below the layer that it changes. */
static int look_below(const struct stack *below, struct layer_change *c)
{
	const struct effect *e = c->effect;
	uint64_t ino;
	int r;

	if (e->kind == EFFECT_ENTRY)
		r = stack_find(below, e->parent, e->bytes, e->len, &ino);
	else
		r = stack_inode(below, e->ino, &c->below);
	if (r == -EUCLEAN)
		return r;
	c->below_exists = r == 0;
	return 0;
}

/* Decodes a payload and gets everything ready; the caller commits or not, and discards. How many changes, or -errno. */
static int prepare(const struct stack *stack, const unsigned char *payload, size_t len,
                   struct effect effects[RECORD_EFFECTS], struct layer_change changes[RECORD_EFFECTS])
{
	struct stack below = stack_below(stack);
	int n = record_decode(payload, len, effects);
	int r = 0;

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		if (layer_recall(stack_top(stack), &effects[i], &changes[i]) && r == 0)
			r = look_below(&below, &changes[i]);
	}
	if (r == 0)
		r = layer_prepare(stack_top(stack), changes, (unsigned int)n);
	if (r < 0)
		layer_discard(stack_top(stack), changes, (unsigned int)n);
	return r < 0 ? r : n;
}

void session_mark(struct session *s)
{
	if (!s->marked)
		mark_set(s->dirfd);
	s->marked = true;
}

int session_apply(struct session *s)
{
	struct layer_change changes[RECORD_EFFECTS];
	struct effect effects[RECORD_EFFECTS];
	struct layer *top = stack_top(&s->stack);
	uint64_t owed;
	int n = -ENOSPC;
	int r;

	if (s->next_serial < FORMAT_NUMBERS_END)
		n = prepare(&s->stack, s->record.bytes, s->record.len, effects, changes);
	if (n < 0)
		return n;
	session_mark(s);
	owed = layer_will_owe(top, changes, (unsigned int)n);
	if (s->record.frees && owed < top->owed)
		owed = 0; /* this is what it was kept for */
	r = journal_append(top->journal, s->next_serial, s->record.bytes, s->record.len, s->record.frees, owed);
	if ((r == -ENOSPC || r == -EDQUOT) && session_finish_removals(s))
		r = journal_append(top->journal, s->next_serial, s->record.bytes, s->record.len, s->record.frees, owed);
	if (r == 0)
		layer_commit(top, changes, (unsigned int)n, s->next_serial++);
	layer_discard(top, changes, (unsigned int)n);
	return r;
}

/* What replay needs to know and tells. */
struct replay {
	struct session *session;
	struct stack *stack; /* the layer being replayed is its top */
};

static int replay_frame(void *arg, uint64_t serial, const unsigned char *payload, size_t len)
{
	struct replay *replay = arg;
	struct layer_change changes[RECORD_EFFECTS];
	struct effect effects[RECORD_EFFECTS];
	struct session *s = replay->session;
	int n = prepare(replay->stack, payload, len, effects, changes);

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		if (effects[i].kind == EFFECT_INODE && effects[i].ino >= s->next_ino)
			s->next_ino = effects[i].ino + 1;
	}
	layer_commit(stack_top(replay->stack), changes, (unsigned int)n, serial);
	layer_discard(stack_top(replay->stack), changes, (unsigned int)n);
	if (serial >= s->next_serial)
		s->next_serial = serial + 1;
	return 0;
}

/* Inodes of a layer that need a look after its replay. */
struct after_replay {
	struct session *session;
	struct layer *layer;
	uint64_t *dead, *dirty;
	size_t n_dead, n_dirty;
	int result;
};

static int remember(uint64_t **list, size_t *n, uint64_t ino)
{
	if ((*n & (*n + 1)) == 0) {
		uint64_t *grown = reallocarray(*list, *n * 2 + 2, sizeof(**list));

		if (!grown)
			return -ENOMEM;
		*list = grown;
	}
	(*list)[(*n)++] = ino;
	return 0;
}

static void sort_out(struct map_node *node, void *arg)
{
	const struct layer_inode *inode = (const struct layer_inode *)node;
	struct after_replay *after = arg;
	int r = 0;

	if (inode->attr.nlink == 0)
		r = remember(&after->dead, &after->n_dead, inode->attr.ino);
	else if (inode->attr.dirty)
		r = remember(&after->dirty, &after->n_dirty, inode->attr.ino);
	if (r < 0)
		after->result = r;
}

static bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

/*
 * A run of writes that no record closed: the content file tells how it ended. One that is shorter than the
 * journal says stays as it is: recovery mends it when the host went down, else reading it is an error.
 */
static int recover_dirty(struct session *s, struct layer *l, uint64_t ino)
{
	const struct layer_inode *inode = layer_inode(l, ino);
	cleanup_fd int fd = content_open(s->layersfd, l->id, ino, O_RDONLY);
	struct timespec mtime = inode->attr.mtime;
	struct timespec ctime = inode->attr.ctime;
	struct stat st;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return log_errno(&s->log, fd, "%s/layers/%u/content/%llu", s->label, l->id, (unsigned long long)ino);
	if (fstat(fd, &st) < 0)
		return log_errno(&s->log, -errno, "%s/layers/%u/content/%llu", s->label, l->id,
		                 (unsigned long long)ino);
	if ((uint64_t)st.st_size < inode->attr.size)
		return 0;
	if (later(st.st_mtim, mtime))
		mtime = st.st_mtim;
	layer_wrote(l, ino, (uint64_t)st.st_size, mtime, later(mtime, ctime) ? mtime : ctime);
	layer_takes(l, ino, (uint64_t)st.st_blocks);
	if (!l->sealed && s->n_dirty < SESSION_DIRTY_MAX)
		s->dirty[s->n_dirty++] = ino;
	return 0;
}

/* A map that grows while it is filled moves all that is in it each time. A wrong guess costs little. */
static void expect_inodes(struct layer *l)
{
	uint64_t n = journal_length(l->journal) / BYTES_PER_INODE;

	map_reserve(&l->inodes, n < EXPECTED_MAX ? (size_t)n : EXPECTED_MAX);
}

/* Of a process that was killed, they may not be on disk yet; without them files would be missed that are removed now. */
static int forget_dead(struct session *s, struct layer *l, const struct after_replay *after)
{
	int r = s->marked && after->n_dead > 0 ? journal_sync(l->journal) : 0;

	if (r < 0)
		return log_errno(&s->log, r, "%s/layers/%u/journal", s->label, l->id);
	for (size_t i = 0; i < after->n_dead; i++) {
		if (layer_forget(l, after->dead[i]))
			content_remove(s->layersfd, l->id, after->dead[i]);
	}
	return 0;
}

static int replay_layer(struct session *s, struct stack *stack, uint64_t sealed)
{
	struct layer *l = stack_top(stack);
	struct replay replay = {.session = s, .stack = stack};
	struct after_replay after = {.session = s, .layer = l};
	int r;

	if (s->host_cut)
		journal_expect_gaps(l->journal);
	expect_inodes(l);
	r = journal_replay(l->journal, sealed, &s->log, replay_frame, &replay);
	if (r < 0)
		return r;
	if (l->n_unsettled > 0)
		layer_each_inode(l, sort_out, &after);
	r = after.result;
	for (size_t i = 0; r == 0 && i < after.n_dirty; i++)
		r = recover_dirty(s, l, after.dirty[i]);
	if (r == 0 && !l->sealed && s->purpose == SESSION_SERVE)
		r = forget_dead(s, l, &after);
	free(after.dead);
	free(after.dirty);
	if (sealed) {
		layer_discount_dead(l);
		layer_seal(l);
	}
	return r;
}

static int chain_length(const struct manifest *m, uint32_t top)
{
	int n = 0;

	for (uint32_t id = top; id != 0; id = manifest_layer(m, id)->parent)
		n++;
	return n;
}

/* After a power cut the parts of a layer need a look each; and who repairs or judges looks at the journal. */
static bool table_will_do(const struct session *s, const struct manifest_layer *ml)
{
	return ml->sealed && ml->changes >= s->table_min && s->purpose == SESSION_SERVE && !s->host_cut &&
	       !s->only_replay;
}

static int load_layer(struct session *s, const struct manifest_layer *ml, const struct stack *have, struct stack *out)
{
	struct layer *l = have ? stack_layer(have, ml->id) : NULL;
	struct layer_table_key key;
	int r;

	if (l) {
		out->layers[out->n++] = l;
		return 0;
	}
	r = layer_open(s->layersfd, ml->id, ml->sealed == 0 && s->purpose != SESSION_LOOK,
	               index_n_inodes(s->base->index) + 1, s->label, &s->log, &l);
	if (r < 0)
		return r;
	key = (struct layer_table_key){.sealed = ml->sealed, .under = stack_numbers(out, out->n)};
	out->layers[out->n++] = l;
	if (table_will_do(s, ml) && layer_load_table(l, &key) == 0)
		return 0;
	return replay_layer(s, out, ml->sealed);
}

void session_save_tables(const struct session *s)
{
	for (unsigned int i = 0; i < s->stack.n; i++) {
		const struct layer *l = s->stack.layers[i];
		const struct manifest_layer *ml = manifest_layer(&s->manifest, l->id);
		struct layer_table_key key = {.sealed = ml->sealed, .under = stack_numbers(&s->stack, i)};

		if (l->sealed && ml->changes >= s->table_min)
			layer_save_table(l, &key);
	}
}

int session_load(struct session *s, const struct manifest *m, uint32_t top, const struct stack *have, struct stack *out)
{
	unsigned int n = (unsigned int)chain_length(m, top);
	struct stack stack = {.base = s->base};
	uint32_t *ids = calloc(n, sizeof(*ids));
	uint32_t id = top;
	int r = 0;

	stack.layers = calloc(n, sizeof(struct layer *));
	if (!ids || !stack.layers)
		r = -ENOMEM;
	for (unsigned int i = n; r == 0 && i-- > 0; id = manifest_layer(m, id)->parent)
		ids[i] = id;
	for (unsigned int i = 0; r == 0 && i < n; i++)
		r = load_layer(s, manifest_layer(m, ids[i]), have, &stack);
	free(ids);
	if (r < 0) {
		session_unload(&stack, have);
		return r;
	}
	*out = stack;
	return 0;
}

void session_unload(struct stack *old, const struct stack *kept)
{
	for (unsigned int i = 0; i < old->n; i++) {
		if (!kept || stack_layer(kept, old->layers[i]->id) != old->layers[i])
			layer_free(old->layers[i]);
	}
	free(old->layers);
	*old = (struct stack){0};
}

int session_content(struct session *s, const struct inode *inode)
{
	uint32_t where = inode->content_layer;
	struct stat st;
	int fd, r;

	if (where == CONTENT_NONE)
		return -ENODATA;
	fd = handles_get(s->handles, where, inode->ino);
	if (fd >= 0 && where == CONTENT_BASE) {
		r = base_check_content(s->base, inode->ino, fd, &s->log);
		return r < 0 ? r : fd;
	}
	if (fd >= 0)
		return fd;
	if (where == CONTENT_BASE) {
		fd = base_open_content(s->base, inode->ino, &s->log);
	} else {
		const struct layer *top = stack_top(&s->stack);

		fd = content_open(s->layersfd, where, inode->ino, where == top->id && !top->sealed ? O_RDWR : O_RDONLY);
	}
	if (fd == -ENOENT && inode->nlink == 0)
		return -ESTALE; /* who has it open since before a reset: here it was let go of */
	if (fd == -ENOENT)
		return log_error(&s->log, -EIO, "%s/layers/%u/content/%llu: missing", s->label, where,
		                 (unsigned long long)inode->ino);
	if (fd < 0)
		return fd;
	if (where != CONTENT_BASE && (fstat(fd, &st) < 0 || (uint64_t)st.st_size < inode->size)) {
		close_fd(fd);
		return log_error(&s->log, -EIO, "%s/layers/%u/content/%llu: damaged: it is shorter than its file",
		                 s->label, where, (unsigned long long)inode->ino);
	}
	r = handles_add(s->handles, where, inode->ino, fd);
	return r < 0 ? r : fd;
}

/* Adds what a dirty inode came to, to the record: CLEAN_EFFECTS at most. */
static int record_clean(struct session *s, uint64_t ino)
{
	struct inode inode;
	struct stat st;
	int fd;
	int r = stack_inode(&s->stack, ino, &inode);

	if (r < 0 || !inode.dirty)
		return 0; /* it was forgotten */
	fd = session_content(s, &inode);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	inode.blocks = (uint64_t)st.st_blocks;
	s->record.frees = true;
	record_inode(&s->record, &inode, INODE_CLEAN | INODE_SIZE | INODE_BLOCKS | INODE_MTIME | INODE_CTIME);
	if (inode.below)
		record_below(&s->record, ino, inode.below);
	return 0;
}

int session_settle(struct session *s)
{
	while (s->n_dirty > 0) {
		unsigned int n = 0;
		int r = 0;

		record_start(&s->record);
		while (r == 0 && n < s->n_dirty && s->record.n_effects + CLEAN_EFFECTS <= RECORD_EFFECTS)
			r = record_clean(s, s->dirty[s->n_dirty - 1 - n++]);
		if (r == 0 && s->record.n_effects > 0)
			r = session_apply(s);
		if (r < 0)
			return r;
		s->n_dirty -= n;
	}
	return 0;
}

void session_remove_dirty(struct session *s, uint64_t ino)
{
	for (unsigned int i = 0; i < s->n_dirty; i++) {
		if (s->dirty[i] == ino) {
			s->dirty[i] = s->dirty[--s->n_dirty];
			return;
		}
	}
}

int session_settle_inode(struct session *s, uint64_t ino)
{
	int r;

	record_start(&s->record);
	r = record_clean(s, ino);
	if (r == 0 && s->record.n_effects > 0)
		r = session_apply(s);
	if (r == 0)
		session_remove_dirty(s, ino);
	return r;
}

/* See removals.h. */
static void remove_content(struct session *s, const struct layer *l, uint64_t ino, bool promised)
{
	uint64_t records = promised ? journal_size(l->journal) : 0;

	if (s->removals && removals_add(s->removals, l->id, ino, records))
		return;
	if (!promised || journal_sync(l->journal) == 0)
		content_remove(s->layersfd, l->id, ino);
}

void session_forget(struct session *s, uint64_t ino)
{
	struct layer *top = stack_top(&s->stack);
	const struct layer_inode *inode = layer_inode(top, ino);
	bool promised = inode && (ino < s->promised_end || inode->attr.promised);

	handles_drop(s->handles, top->id, ino);
	handles_drop(s->handles, CONTENT_BASE, ino);
	session_remove_dirty(s, ino);
	if (layer_forget(top, ino))
		remove_content(s, top, ino, promised);
}

bool session_finish_removals(struct session *s)
{
	return s->removals && removals_wait(s->removals);
}

void session_look_back(struct session *s)
{
	enum mark mark = mark_read(s->dirfd);

	s->marked = mark != MARK_NONE;
	s->host_cut = mark == MARK_OTHER_BOOT;
}

int session_sync(struct session *s)
{
	uint64_t nr = commit_made(&s->commit);
	int r = session_settle(s);

	session_finish_removals(s); /* after this nobody sweeps */
	if (r == 0 && syncfs(s->dirfd) < 0)
		r = -errno;
	if (r < 0)
		return r;
	commit_durable(&s->commit, s->dirfd, nr);
	/* Where that fails for lack of room, only a host that stores zeros as holes could tell. */
	session_parts_synced(s);
	mark_clear(s->dirfd);
	s->marked = false;
	return 0;
}

int session_sync_manifest(struct session *s)
{
	return commit_sync(&s->commit, s->dirfd, s->layersfd, commit_made(&s->commit), s->manifest.top);
}
