/* initramfs: what a guest's kernel unpacks before there is a root: the first process, its job, files. */
#pragma once

#include <stddef.h>

#include "umlfs/log.h"

struct initramfs {
	const char *init;         /* host path of the program that becomes /init */
	const void *job;          /* becomes /job */
	size_t job_len;           /* bytes */
	const char *const *files; /* host paths; they become /files/0, /files/1, ... with their modes, owned by root */
	size_t n_files;
};

/*
 * Writes a newc archive (kernel: driver-api/early-userspace/buffer-format) with these and the empty
 * directories /dev and /newroot to fd. Errors are written to log: of opening the files, -EISDIR for what is no
 * regular file, -EBUSY for a file that became shorter meanwhile, -EFBIG for one of 4 GiB or more, of writing.
 */
int initramfs_write(int fd, const struct initramfs *contents, const struct log *log);
