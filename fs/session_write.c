/*
 * session_write: copies up, begins and ends runs of writes.
 * Invariant: a record names only bytes that are in the content file already; see session_begin_write().
 * Called by tree.
 */
#include "session.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "content.h"
#include "format.h"
#include "io.h"

/* A copy-up in progress. */
struct copy {
	uint64_t len; /* bytes of the file that are kept */
	bool in_part; /* the content file is a hole of this length */
};

/* 1 when the new content file needs no copy: it shares blocks, or is a hole and copied in parts; 0 when it does. */
static int begin_in_part(struct session *s, const struct inode *inode, int fd, struct copy *copy)
{
	int src;

	if (copy->len == 0 || (copy->len <= s->copying.whole && inode->below == 0))
		return 0;
	if (journal_version(stack_top(&s->stack)->journal) < FORMAT_JOURNAL_PARTS)
		return 0;
	if (inode->below == 0 && !s->copying.no_reflink &&
	    quota_check_bytes(&s->quota, &s->stack, -1, 0, copy->len) == 0) {
		src = session_content(s, inode);
		if (src < 0)
			return src;
		if (io_reflink(src, fd, copy->len) == 0)
			return 1;
	}
	copy->in_part = io_make_hole(fd, copy->len) == 0;
	if (copy->in_part)
		return 1;
	return ftruncate(fd, 0) < 0 ? -errno : 0;
}

static int copy_whole(struct session *s, const struct inode *inode, int fd, uint64_t len)
{
	int src;
	int r = quota_check_bytes(&s->quota, &s->stack, -1, 0, len);

	if (r < 0 || len == 0)
		return r;
	if (inode->below)
		return ftruncate(fd, (off_t)len) < 0 ? -errno : session_copy_part(s, inode, 0, len);
	src = session_content(s, inode);
	if (src < 0)
		return src;
	return io_clone(src, fd, len);
}

/* The content in the top layer, not yet told by any record: the descriptor, kept among the handles. */
static int copy_up(struct session *s, const struct inode *inode, uint64_t keep, struct copy *copy)
{
	struct layer *top = stack_top(&s->stack);
	bool is_empty = keep == 0 || inode->size == 0 || inode->content_layer == CONTENT_NONE;
	cleanup_fd int fd = content_create(s->layersfd, top->id, inode->ino);
	int r;

	if (fd < 0)
		return fd;
	copy->len = is_empty ? 0 : keep < inode->size ? keep : inode->size;
	r = begin_in_part(s, inode, fd, copy);
	if (r == 0)
		r = copy_whole(s, inode, fd, copy->len);
	if (r >= 0) {
		int kept = take_fd(&fd);

		handles_drop(s->handles, top->id, inode->ino);
		r = handles_add(s->handles, top->id, inode->ino, kept);
		if (r == 0)
			return kept;
	}
	content_remove(s->layersfd, top->id, inode->ino);
	return r;
}

static void undo_copy_up(struct session *s, uint64_t ino)
{
	uint32_t top = stack_top(&s->stack)->id;

	handles_drop(s->handles, top, ino);
	content_remove(s->layersfd, top, ino);
}

static int make_room_for_dirty(struct session *s)
{
	return s->n_dirty < SESSION_DIRTY_MAX ? 0 : session_settle(s);
}

/* True when none, or (here) all of these bytes of a file in part is in the top layer. */
static bool is_all(const struct session *s, uint64_t ino, uint64_t from, uint64_t to, bool here)
{
	const struct layer_inode *inode = layer_inode(stack_top(&s->stack), ino);
	bool in = false;
	uint64_t end = inode && inode->part ? ranges_end(&inode->part->here, from, &in) : UINT64_MAX;

	return in == here && end >= to;
}

/* Whole units that a write brings into the top layer. */
struct need {
	uint64_t first, end; /* first == end: none */
	bool around;         /* but for the write's own bytes, which replace what is below */
};

/* What a write of w needs of a file that is here in part, or not yet (is_new), up to `below`. */
static struct need find_need(const struct session *s, uint64_t ino, uint64_t below, bool is_new,
                             const struct session_write *w)
{
	uint64_t unit = s->copying.unit;
	uint64_t to = w->to < below ? w->to : below;
	uint64_t end = to % unit ? to - to % unit + unit : to;

	if (w->from >= to || (!is_new && is_all(s, ino, w->from, to, true)))
		return (struct need){0};
	return (struct need){
		.first = w->from / unit * unit,
		.end = end < below ? end : below,
		.around = w->at_once && w->to <= below && (is_new || is_all(s, ino, w->from, to, false)),
	};
}

/*
 * Of a file that is here in part up to `below`: copies what a write of w needs. The bytes that are here then, or
 * (w->brings_to) when it was written; *from_out == *to_out: no more than before.
 */
static int copy_for_write(struct session *s, const struct inode *inode, uint64_t below, bool is_new,
                          struct session_write *w, uint64_t *from_out, uint64_t *to_out)
{
	struct need need = find_need(s, inode->ino, below, is_new, w);
	int fd, r;

	*from_out = need.first;
	*to_out = need.end;
	if (need.first == need.end)
		return 0;
	fd = is_new ? -1 : session_content(s, inode);
	r = quota_check_bytes(&s->quota, &s->stack, fd, need.first, need.end - need.first);
	if (r < 0) {
		*from_out = *to_out = 0;
		return r;
	}
	if (!need.around)
		return session_copy_part(s, inode, need.first, need.end);
	w->brings_from = need.first;
	w->brings_to = need.end;
	r = session_copy_part(s, inode, need.first, w->from);
	return r < 0 ? r : session_copy_part(s, inode, w->to, need.end);
}

/* As make_writable() does it, where blocks cannot be shared. */
size_t session_write_reads(const struct session *s, const struct inode *inode, const struct session_write *w,
                           struct range out[2])
{
	bool is_new = inode->content_layer != stack_top(&s->stack)->id;
	uint64_t below = inode->below;
	struct need need;

	if (is_new && inode->size <= s->copying.whole && below == 0) {
		out[0] = (struct range){.to = inode->content_layer == CONTENT_NONE ? 0 : inode->size};
		return 1;
	}
	need = find_need(s, inode->ino, is_new ? inode->size : below, is_new, w);
	out[0] = (struct range){.from = need.first, .to = need.around ? w->from : need.end};
	out[1] = (struct range){.from = w->to, .to = need.end};
	return need.around ? 2 : 1;
}

/* Writes the record that a write of w begins, and that these bytes are here already. */
static int tell(struct session *s, struct inode *inode, const struct session_write *w, const struct copy *copy, int fd,
                uint64_t from, uint64_t to)
{
	bool here = inode->content_layer == stack_top(&s->stack)->id;
	unsigned int fields = INODE_DIRTY | INODE_SIZE | INODE_MTIME | INODE_CTIME;
	struct inode begun = *inode;
	struct stat st;

	begun.mtime = w->now;
	begun.ctime = w->now;
	begun.size = w->keep < inode->size ? w->keep : inode->size;
	if (!here && !copy->in_part)
		fields |= INODE_HERE;
	if (copy->in_part && fstat(fd, &st) == 0) {
		begun.blocks = (uint64_t)st.st_blocks;
		fields |= INODE_BLOCKS;
	}
	record_start(&s->record);
	record_inode(&s->record, &begun, fields);
	if (copy->in_part)
		record_partial(&s->record, inode->ino, copy->len);
	if (to > from && w->brings_to == 0)
		record_part(&s->record, inode->ino, from, to);
	s->record.frees = here && w->keep < inode->size;
	return session_apply(s);
}

/* All that comes before the record: the descriptor. */
static int make_writable(struct session *s, const struct inode *inode, struct session_write *w, struct copy *copy,
                         uint64_t *from, uint64_t *to)
{
	bool here = inode->content_layer == stack_top(&s->stack)->id;
	int fd = here ? session_content(s, inode) : copy_up(s, inode, w->keep, copy);
	uint64_t below = here ? inode->below : copy->in_part ? copy->len : 0;
	int r;

	*from = *to = 0;
	if (fd < 0 || below == 0)
		return fd;
	r = copy_for_write(s, inode, below, !here, w, from, to);
	if (r < 0 && !here)
		undo_copy_up(s, inode->ino);
	fd = handles_get(s->handles, stack_top(&s->stack)->id, inode->ino);
	if (r < 0 && here && fd >= 0)
		session_punch_away(s, inode->ino, fd, *from, *to);
	return r < 0 ? r : fd < 0 ? -EIO : fd;
}

int session_begin_write(struct session *s, struct inode *inode, struct session_write *w)
{
	struct layer *top = stack_top(&s->stack);
	bool here = inode->content_layer == top->id;
	bool was_dirty = here && inode->dirty;
	struct copy copy = {0};
	uint64_t from, to;
	int fd, r;

	w->brings_from = w->brings_to = 0;
	if (was_dirty && w->keep >= inode->size && (w->from >= inode->below || w->from >= w->to))
		return session_content(s, inode);
	r = was_dirty ? 0 : make_room_for_dirty(s);
	if (r < 0)
		return r;
	fd = make_writable(s, inode, w, &copy, &from, &to);
	if (fd < 0)
		return fd;
	if (was_dirty && w->keep >= inode->size && (to == 0 || w->brings_to > 0))
		return fd;
	r = tell(s, inode, w, &copy, fd, from, to);
	if (r < 0) {
		if (!here)
			undo_copy_up(s, inode->ino);
		else
			session_punch_away(s, inode->ino, fd, from, to);
		return r;
	}
	if (!was_dirty)
		s->dirty[s->n_dirty++] = inode->ino;
	inode->mtime = w->now;
	inode->ctime = w->now;
	inode->content_layer = top->id;
	inode->below = layer_inode(top, inode->ino)->attr.below;
	inode->dirty = true;
	return fd;
}

int session_wrote(struct session *s, const struct session_write *w, int fd, uint64_t ino, uint64_t size)
{
	struct stat st;

	if (w->brings_to > 0) {
		int r;

		record_start(&s->record);
		record_part(&s->record, ino, w->brings_from, w->brings_to);
		r = session_apply(s);
		if (r < 0)
			return r;
	}
	layer_wrote(stack_top(&s->stack), ino, size, w->now, w->now);
	if (s->quota.bytes && fstat(fd, &st) == 0)
		layer_takes(stack_top(&s->stack), ino, (uint64_t)st.st_blocks);
	return 0;
}

void session_write_failed(struct session *s, const struct session_write *w, const struct inode *before)
{
	struct layer *top = stack_top(&s->stack);
	const struct layer_inode *inode = layer_inode(top, before->ino);
	/* A cut that was told and not made hides bytes of below. */
	uint64_t below = !inode || !inode->part ? 0 : before->content_layer == top->id ? before->below : before->size;
	bool is_uncut = below > 0 && inode->part->below < below;
	int fd = w->brings_to > 0 ? handles_get(s->handles, top->id, before->ino) : -1;

	if (fd >= 0)
		session_punch_away(s, before->ino, fd, w->brings_from, w->brings_to);
	if (before->dirty && !is_uncut) {
		layer_wrote(top, before->ino, before->size, before->mtime, before->ctime);
		return;
	}
	record_start(&s->record);
	record_inode(&s->record, before, INODE_CLEAN | INODE_SIZE | INODE_BLOCKS | INODE_MTIME | INODE_CTIME);
	if (is_uncut)
		record_below(&s->record, before->ino, below);
	if (session_apply(s) == 0) {
		session_remove_dirty(s, before->ino);
		return;
	}
	/* The run stays open, and what closes it later tells this. */
	layer_wrote(top, before->ino, before->size, before->mtime, before->ctime);
	if (is_uncut)
		layer_uncut(top, before->ino, below);
}
