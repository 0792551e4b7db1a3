/*
 * mark: session/running, there while a session holds changes that may not be on disk.
 *
 * A symbolic link, because that takes no block: it must be possible on a full disk. Its target is the id of the
 * host's boot, so that the next one to open the session knows whether the process died or the host did.
 */
#pragma once

enum mark { MARK_NONE, MARK_THIS_BOOT, MARK_OTHER_BOOT };

enum mark mark_read(int dirfd);

/* Best effort: without it a power cut may be taken for damage, which is an error instead of a loss. */
void mark_set(int dirfd);
void mark_clear(int dirfd);
