/*
 * fuse_ops_sync: fsync and fsyncdir, which wait for the disk on threads of their own.
 * Invariant: what touches the tree is done by the loop, between the two syncs of a file with new parts.
 * Called by fuse_ops_file.c.
 */
#include "fuse_ops_reply.h"

#include <stdlib.h>

#include "crew.h"
#include "worker.h"

struct sync {
	struct task task;
	struct way_back {
		struct job job;
		struct sync *sync;
	} back; /* to the loop */
	struct fuse_ops *ops;
	fuse_req_t req;
	struct tree_flush flush;
};

static void finish(struct sync *s, int r)
{
	tree_flush_fini(&s->flush); /* before anybody is told */
	fuse_ops_reply_status(s->req, r);
	free(s);
}

static void sync_records(struct task *task, void *buffer)
{
	struct sync *s = (struct sync *)task;

	finish(s, tree_flush_records(&s->flush));
}

/* On the loop: parts that were written meanwhile may not be on disk. */
static void tell_parts(struct job *job)
{
	struct sync *s = ((struct way_back *)job)->sync;
	struct fuse_ops *ops = s->ops;

	s->task.run = sync_records;
	if (tree_flush_tell(ops->tree, &s->flush) < 0)
		finish(s, tree_fsync(ops->tree, s->flush.ino));
	else if (!ops->syncs || !crew_give(ops->syncs, &s->task))
		finish(s, tree_flush_records(&s->flush));
}

static void sync_content(struct task *task, void *buffer)
{
	struct sync *s = (struct sync *)task;
	int r = tree_flush_content(&s->flush);

	if (r == 0 && s->flush.parts > 0) {
		s->back = (struct way_back){.job = {.done = tell_parts}, .sync = s};
		worker_hand_back(s->ops->warmer, &s->back.job);
	} else {
		finish(s, r < 0 ? r : tree_flush_records(&s->flush));
	}
}

/* False when the loop must do it. */
static bool give(fuse_req_t req, struct fuse_ops *ops, fuse_ino_t ino)
{
	struct sync *s = ops->syncs ? malloc(sizeof(*s)) : NULL;

	if (!s || tree_flush_init(ops->tree, ino, &s->flush) < 0) {
		free(s);
		return false;
	}
	s->task = (struct task){.run = sync_content, .files = 2};
	s->ops = ops;
	s->req = req;
	if (crew_give(ops->syncs, &s->task))
		return true;
	tree_flush_fini(&s->flush);
	free(s);
	return false;
}

void fuse_ops_sync(fuse_req_t req, struct fuse_ops *ops, fuse_ino_t ino)
{
	if (!give(req, ops, ino))
		fuse_ops_reply_status(req, tree_fsync(ops->tree, ino));
}
