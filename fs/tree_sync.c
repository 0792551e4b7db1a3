/*
 * tree_sync: what is acknowledged, to the disk; by another thread where nobody may wait.
 * Invariant: content is on disk before the records that name it, and both before the manifest that names their layer.
 * Called by the front end and by tests.
 */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cleanup.h"

/* A descriptor of its own; that of a failure stays one. */
static int own(int fd)
{
	int copy;

	if (fd < 0)
		return fd;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return copy < 0 ? -errno : copy;
}

/* How many bytes of the file the layer's content file has, when no record tells that all of them are on disk. */
static uint64_t fresh_parts(const struct layer *l, uint64_t ino)
{
	struct range unused;

	return layer_part_synced(l, ino, &unused) ? layer_inode(l, ino)->part->here.bytes : 0;
}

int tree_flush_init(struct tree *t, uint64_t ino, struct tree_flush *out)
{
	struct tree_flush f = {.session = t->session, .content = -1, .journal = -1, .ino = ino};
	struct layer *top = stack_top(&t->session->stack);
	struct inode inode;
	int r = stack_inode(&t->session->stack, ino, &inode);

	f.layer = top->id;
	f.parts = fresh_parts(top, ino);
	if (r == 0 && S_ISREG(inode.mode) && inode.content_layer == top->id) {
		layer_promise(top, ino);
		f.content = own(session_content(t->session, &inode));
		r = f.content < 0 ? f.content : 0;
	}
	if (r == 0) {
		f.journal = own(journal_fd(top->journal));
		r = f.journal < 0 ? f.journal : 0;
	}
	if (r < 0)
		tree_flush_fini(&f);
	else
		*out = f;
	return r;
}

/* Content first: a record must never name bytes that can still vanish. */
int tree_flush_content(const struct tree_flush *f)
{
	return f->content >= 0 && fdatasync(f->content) < 0 ? -errno : 0;
}

/* Without room for the record it is as if there had been nothing to tell: the next sync tells it. */
int tree_flush_tell(struct tree *t, const struct tree_flush *f)
{
	const struct layer *top = stack_top(&t->session->stack);

	if (f->layer != top->id || f->parts != fresh_parts(top, f->ino))
		return -EAGAIN;
	session_part_synced(t->session, f->ino);
	return 0;
}

/* And the manifest: a layer that a power cut takes back with it would take the bytes along. */
int tree_flush_records(const struct tree_flush *f)
{
	struct session *s = f->session;

	return fdatasync(f->journal) < 0 ? -errno : commit_sync_last(&s->commit, s->dirfd, s->layersfd);
}

void tree_flush_fini(struct tree_flush *f)
{
	f->content = close_fd(f->content);
	f->journal = close_fd(f->journal);
}

int tree_fsync(struct tree *t, uint64_t ino)
{
	struct tree_flush f;
	int r = tree_flush_init(t, ino, &f);

	if (r < 0)
		return r;
	r = tree_flush_content(&f);
	if (r == 0 && f.parts > 0)
		r = tree_flush_tell(t, &f); /* of the same parts: nobody came between */
	if (r == 0)
		r = tree_flush_records(&f);
	tree_flush_fini(&f);
	return r;
}
