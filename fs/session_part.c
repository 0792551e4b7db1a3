/*
 * session_part: files whose content file in a layer has only parts of their bytes: who has the others.
 * Invariant: in a content file of the top layer, bytes before `below` that no record tells are a hole, and bytes that one tells
 * are none: so a power cut cannot make one look like the other. Once they are on disk and the journal tells so, they may be holes,
 * because a host may store zeros as such.
 * Called by session_write, recovery and tree.
 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content.h"
#include "io.h"

enum { SECTOR = 512 };

static const struct layer_part *part_of(const struct session *s, const struct inode *inode)
{
	const struct layer *l = stack_layer(&s->stack, inode->content_layer);
	const struct layer_inode *found = l ? layer_inode(l, inode->ino) : NULL;

	return found ? found->part : NULL;
}

int session_piece(const struct session *s, const struct inode *inode, uint64_t offset, struct session_piece *out)
{
	struct session_piece piece = {.inode = *inode, .len = UINT64_MAX};
	struct inode *at = &piece.inode;

	while (offset < at->below) {
		const struct layer_part *part = part_of(s, at);
		uint64_t end;
		bool here;
		int r;

		if (!part)
			return -EUCLEAN;
		end = ranges_end(&part->here, offset, &here);
		if (end > at->below)
			end = here ? UINT64_MAX : at->below; /* all behind below is here */
		if (end != UINT64_MAX && end - offset < piece.len)
			piece.len = end - offset;
		if (here)
			break;
		r = stack_inode_under(&s->stack, at->content_layer, inode->ino, at);
		if (r < 0 || !S_ISREG(at->mode) || at->content_layer == CONTENT_NONE || offset >= at->size)
			return -EUCLEAN;
	}
	*out = piece;
	return 0;
}

uint64_t session_blocks(struct session *s, const struct inode *inode)
{
	const struct layer *l = inode->below ? stack_layer(&s->stack, inode->content_layer) : NULL;
	const struct layer_inode *found = l ? layer_inode(l, inode->ino) : NULL;
	struct inode below;
	uint64_t away, most;
	struct stat st;
	int fd;

	if (!found || stack_inode_under(&s->stack, inode->content_layer, inode->ino, &below) < 0)
		return inode->blocks;
	fd = session_content(s, &below);
	if (fd >= 0 && fstat(fd, &st) == 0)
		below.blocks = (uint64_t)st.st_blocks; /* a base's index does not know of holes */
	away = layer_away(found) / SECTOR;
	most = session_blocks(s, &below);
	return inode->blocks + (away < most ? away : most);
}

/* The content file in the top layer, which may be too new to be in any record. */
static int top_content(struct session *s, uint64_t ino)
{
	uint32_t top = stack_top(&s->stack)->id;
	int fd = handles_get(s->handles, top, ino);
	int r;

	if (fd >= 0)
		return fd;
	fd = content_open(s->layersfd, top, ino, O_RDWR);
	if (fd < 0)
		return fd;
	r = handles_add(s->handles, top, ino, fd);
	return r < 0 ? r : fd;
}

int session_copy_part(struct session *s, const struct inode *inode, uint64_t from, uint64_t to)
{
	uint32_t top = stack_top(&s->stack)->id;

	while (from < to) {
		struct session_piece piece;
		int r = session_piece(s, inode, from, &piece);
		uint64_t len = piece.len < to - from ? piece.len : to - from;

		if (r == 0 && piece.inode.content_layer != top) {
			int src = session_content(s, &piece.inode);
			int dst = src < 0 ? src : top_content(s, inode->ino);

			r = dst < 0 ? dst : io_copy_solid(src, dst, from, len);
		}
		if (r < 0)
			return r == -EUCLEAN ? -EIO : r;
		from += len;
	}
	return 0;
}

void session_punch_away(struct session *s, uint64_t ino, int fd, uint64_t from, uint64_t to)
{
	const struct layer_inode *inode = layer_inode(stack_top(&s->stack), ino);
	uint64_t below = inode && inode->part ? inode->part->below : 0;

	if (to > below)
		to = below;
	while (from < to) {
		bool here;
		uint64_t end = ranges_end(&inode->part->here, from, &here);

		if (end > to)
			end = to;
		/* Where that fails, only a power cut could show these bytes, and only together with a record of later ones. */
		if (!here &&
		    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(end - from)) < 0)
			return;
		from = end;
	}
}

/* The first hole in the parts that may not be on disk, at this offset or behind it, and its length: 1; 0 when there is none. */
static int next_hole(const struct layer_part *part, int fd, uint64_t *at, uint64_t *len)
{
	uint64_t from = *at;

	while (from < part->below) {
		bool here;
		uint64_t end = ranges_end(&part->fresh, from, &here);
		off_t hole = here ? lseek(fd, (off_t)from, SEEK_HOLE) : 0;
		off_t data;

		if (end > part->below)
			end = part->below;
		if (hole < 0)
			return -errno;
		if (here && (uint64_t)hole < end) {
			data = lseek(fd, hole, SEEK_DATA);
			if (data < 0 && errno != ENXIO)
				return -errno;
			*at = (uint64_t)hole;
			*len = (data < 0 || (uint64_t)data > end ? end : (uint64_t)data) - *at;
			return 1;
		}
		from = end;
	}
	return 0;
}

int session_part_torn(const struct layer_inode *inode, int fd)
{
	uint64_t at = 0, len;

	return inode->part ? next_hole(inode->part, fd, &at, &len) : 0;
}

/* What the layer below has, into a hole: the record that tells it was on disk, the bytes were not. */
static int fill_hole(struct session *s, uint64_t ino, int fd, uint64_t at, uint64_t len)
{
	struct inode below;
	int r = stack_inode_under(&s->stack, stack_top(&s->stack)->id, ino, &below);

	while (r == 0 && len > 0) {
		struct session_piece piece;
		uint64_t n;
		int src;

		r = session_piece(s, &below, at, &piece);
		if (r < 0)
			return r;
		n = piece.len < len ? piece.len : len;
		src = session_content(s, &piece.inode);
		r = src < 0 ? src : io_copy_solid(src, fd, at, n);
		at += n;
		len -= n;
	}
	return r;
}

int session_mend_part(struct session *s, const struct layer_inode *inode, int fd)
{
	uint64_t at = 0, len;
	int r;

	while ((r = next_hole(inode->part, fd, &at, &len)) > 0) {
		r = fill_hole(s, inode->attr.ino, fd, at, len);
		if (r < 0)
			return r;
		at += len;
	}
	return r;
}

int session_part_synced(struct session *s, uint64_t ino)
{
	struct range range;

	if (!layer_part_synced(stack_top(&s->stack), ino, &range))
		return 0;
	record_start(&s->record);
	record_part(&s->record, ino, range.from, range.to);
	s->record.frees = true;
	return session_apply(s);
}

struct synced {
	struct session *session;
	int result;
};

static void tell_synced(struct map_node *node, void *arg)
{
	struct synced *synced = arg;

	if (synced->result == 0)
		synced->result = session_part_synced(synced->session, ((const struct layer_inode *)node)->attr.ino);
}

int session_parts_synced(struct session *s)
{
	struct synced synced = {.session = s};
	struct layer *top = s->stack.n > 0 ? stack_top(&s->stack) : NULL;
	uint64_t before;

	if (!top || top->sealed) /* nothing was loaded, or only to be read */
		return 0;
	before = journal_size(top->journal);

	layer_each_inode(top, tell_synced, &synced);
	if (synced.result == 0 && journal_size(top->journal) > before)
		synced.result = journal_sync(top->journal);
	return synced.result;
}
