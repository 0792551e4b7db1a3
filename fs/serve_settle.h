/* serve_settle: what was written through shared mappings comes before what is asked next. For serve alone. */
#pragma once

#include "fuse_ops.h"

struct fuse_buf;

/*
 * Answers what the kernel has asked until now, if it is a write of its own (of what programs have mapped), and what comes
 * before; and waits for those that wait for a disk. Ten seconds at most. Call when the kernel has been told to write.
 */
void serve_settle(struct fuse_session *fuse, struct fuse_buf *buf, struct fuse_ops *ops);
