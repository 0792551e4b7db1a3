/*
 * notify: tells the kernel which names and inodes it must forget after a reset.
 *
 * Collecting looks at the maps and belongs on the loop's thread; sending can wait for requests that only the
 * loop answers, so it belongs on another (see the kernel's fs/fuse/dir.c, fuse_reverse_inval_entry(), which
 * takes the directory's lock).
 */
#pragma once

#include "snapshot.h"
#include "tree.h"

struct fuse_session;
struct notify;

/* What the kernel may hold of the layers that went and came. Only what it has looked up is collected. */
int notify_collect(struct tree *t, const struct snapshot_change *change, struct notify **out);

/* The kernel asks again before it believes a name, an attribute or a page. Cheap; the reset has happened when it returns. */
void notify_expire(const struct notify *n, struct fuse_session *fuse);

/*
 * The kernel lets go of what is no more, which takes 5 to 8 us each, and says so with a FORGET. A name that was made anew
 * meanwhile stays. in_use: somebody may be in a directory that is gone, and shall not find its files there; then no name may
 * have been made anew.
 */
void notify_evict(const struct notify *n, bool in_use, struct fuse_session *fuse);
void notify_free(struct notify *n);
