/* diff_compare: in what an inode of one state differs from an inode of another. */
#pragma once

#include "state.h"
#include "umlfs/diff.h"

/*
 * The enum diff_what bits, or -errno. Bytes are compared when sizes are the same and the two states keep them in different
 * places. DIFF_LINKS and DIFF_NAME are the caller's.
 */
int diff_compare(struct state *from, const struct inode *a, struct state *to, const struct inode *b, bool times);
