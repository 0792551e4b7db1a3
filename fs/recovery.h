/*
 * recovery: makes a state of what a host that went down left: what was synced, and any part of the rest.
 *
 * After a daemon was killed alone, the host's kernel has everything: then there is only something to sweep.
 */
#pragma once

#include "session.h"

/*
 * Chooses between the manifest and manifest.old, when both are there: the old one when a layer that is new in
 * the other does not hold what the manifest says. The base must be open and no layer loaded. look: nothing on disk
 * changes. 0 or -errno.
 */
int recovery_choose(struct session *s, bool look);

/*
 * Reads the manifest; manifest.old in its place when that is all there is, with a warning. As manifest_read(). look:
 * nothing on disk changes.
 */
int recovery_read_manifest(struct session *s, const char *label, bool look, const struct log *log);

/*
 * Removes content files of the loaded top layer that no inode has, and parts of content files that no record tells: a
 * process died between a copy and its record. 0 or -errno.
 */
int recovery_sweep(struct session *s);

/*
 * Mends the files whose content is shorter than the loaded top layer says: one whose copy was not finished
 * gets the bytes of below again, another keeps those that are there. The parts of one that was copied in parts get the
 * bytes of below where they are holes. A warning tells how many.
 */
int recovery_mend(struct session *s);
