/*
 * import: an archive, or a directory, as a base.
 *
 * A base is a directory that holds the tree's files under their own paths and, in .umlfs/index, everything
 * that the host would not let an ordinary user keep: owners, modes, device numbers, extended attributes. The
 * host's files are private to whoever imported (0600 and 0700).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "umlfs/log.h"
#include "umlfs/progress.h"

struct import_options {
	/*
	 * The paths of archives, directories or images, later ones over earlier ones; "-": an archive, also of an image, from
	 * standard input.
	 *
	 *   archive    tar or cpio, as it is or under gzip, bzip2, xz, lzma, lzip, zstd, lz4 or compress; zip, 7-Zip, ISO 9660
	 *   directory  gives the same as a tar of it: mount points below it are empty directories, what the caller owns
	 *              belongs to 0:0
	 *   image      an OCI image layout, as a directory or an archive of tar; an archive that docker or podman saved
	 */
	const char *const *sources;
	unsigned int n_sources; /* one or more */
	/* Of several images; see umlfs import --help. NULL: for this machine, and of any name. */
	const char *platform, *image;
	const char *base; /* path of the base to make; its parent directory must be there */
	bool force;       /* replace a base that is there; anything that is no base is refused all the same */
	const struct log *log;
	/*
	 * Called from the calling thread, at least once for every MiB read or written, every 64 entries, and
	 * every 200 ms while a pipe brings nothing; may be NULL. Any answer but 0 stops the import:
	 * import_run() removes what it made.
	 */
	int (*progress)(void *arg, const struct progress *progress);
	void *progress_arg;
};

struct import_result {
	uint64_t entries; /* names in the base */
	uint64_t bytes;   /* sizes of its regular files added up, each inode once */
};

/*
 * Makes the base in a temporary directory beside it and renames that: it is there whole and on disk, or not
 * at all. What a killed import of the same base left is removed by the next one. Same source, same index,
 * whoever imports it. A path that comes twice is what it was the last time; directories that the archive does
 * not tell of are 0755 0:0 with a time of 0. Symlinks, devices, fifos and sockets are in the index only.
 *
 * Errors are written to log with the member's name:
 *
 *   -EEXIST        the base is there (and force was not given), or the path is taken by something that is no base, or by the end
 *                  by anything but what was there in the beginning
 *   -ENOENT        no such source, no directory to put the base in, or no image that is what platform and image choose
 *   -EINVAL        base is no name that a base can have, or lies inside a source directory or around it; a source is a
 *                  session; no source is an image though platform or image were given; in an image: what should be a file is none
 *   -EPERM         a member that no base may hold: "..", a path through a symlink, umlfs's own folder, an encrypted member
 *   -EUCLEAN       the archive or the image is truncated, damaged, empty, or none; a hard link to what is not there
 *   -ENOTUNIQ      more than one image is what platform and image choose
 *   -ENAMETOOLONG  a name of more than 255 bytes, or a symlink to more than 4095
 *   -E2BIG         attributes of a member that are longer than those of a Linux file can be; more files than an image has;
 *                  a pipe whose first 64 MiB do not tell whether it is an image
 *   -EOVERFLOW     more entries than one index can name
 *   -EBUSY         a file of a source directory changed while it was read; a session that is mounted stands on the base that
 *                  would be replaced, or was mounted meanwhile
 *   -EACCES        a source that the caller may not read
 *   -ECANCELED     progress() said stop; not logged
 *   -ENOSPC        and what else the host's file system answers
 */
int import_run(const struct import_options *options, struct import_result *result);
