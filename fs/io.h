/* io: whole reads and writes, beneath-only opens, copies that keep holes, and trees that vanish. */
#pragma once

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

/* All len bytes or an error; a file that ends early is -EUCLEAN. */
int io_read_all(int fd, void *buf, size_t len, uint64_t offset);

/* All len bytes or an error; what part was written on failure is not told. */
int io_write_all(int fd, const void *buf, size_t len, uint64_t offset);

/*
 * Opens path below dirfd and nowhere else: openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS. A path
 * longer than PATH_MAX is walked in steps. O_CLOEXEC, O_NOFOLLOW and O_NOCTTY are added.
 */
int io_open_beneath(int dirfd, const char *path, int flags, mode_t mode);

/*
 * The next stretch at or behind `at` that is no hole, up to size: true, and its ends; false when only a hole is left. On
 * a file system that knows no holes everything is data.
 */
bool io_next_data(int fd, uint64_t at, uint64_t size, uint64_t *start_out, uint64_t *end_out);

/* True when a hole would read the same. */
static inline bool io_all_zero(const unsigned char *bytes, size_t len)
{
	return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

/* 0 for a regular file, -EUCLEAN for anything else. */
int io_check_regular(int fd);

/*
 * A regular file beneath dirfd, opened as above without a wait. Anything else is not opened at all, for that may do something
 * (a FIFO, a tape): -EUCLEAN; -ELOOP for a symlink, also on the way.
 */
int io_open_regular(int dirfd, const char *path, int flags);

/*
 * Makes the len bytes from src_offset of src appear at dst_offset of dst; holes of the source are left out,
 * so dst must read as zeros there. Shares blocks where the file system can. The end of src before len is no
 * error.
 */
int io_copy_range(int src, uint64_t src_offset, int dst, uint64_t dst_offset, uint64_t len);

/*
 * The first len bytes of src into the empty file dst: FICLONE where possible, else io_copy_range(). Its length grows
 * with its bytes, so that after a power cut a file of this length has them. -EUCLEAN when src is shorter.
 */
int io_clone(int src, int dst, uint64_t len);

/* The first len bytes of src into the empty file dst by sharing blocks: 0, or -errno where the file system cannot. */
int io_reflink(int src, int dst, uint64_t len);

/* The len bytes from src_offset of src to dst_offset of dst by sharing blocks: 0, or -errno where that cannot be. */
int io_share_range(int src, uint64_t src_offset, int dst, uint64_t dst_offset, uint64_t len);

/* The len bytes at offset of src into the same place of dst, zeros and holes as data too. -EUCLEAN when src ends early. */
int io_copy_solid(int src, int dst, uint64_t offset, uint64_t len);

/* Gives the empty file dst a length without blocks: -EOPNOTSUPP where the file system has no holes, or cannot tell. */
int io_make_hole(int fd, uint64_t len);

/* Removes name below dirfd with everything in it, of any depth. 0 also when there is nothing. */
int io_remove_tree(int dirfd, const char *name);

/*
 * Replaces dirfd/name by the given bytes in one step: a temporary file beside it, then rename(2). Nothing is
 * synced: who must survive a power cut syncs later. A failure leaves the old file and no temporary one.
 */
int io_replace_file(int dirfd, const char *name, const void *bytes, size_t len);

/* The whole of dirfd/name, with a NUL behind it, on the heap. -EFBIG above max bytes, -EUCLEAN when it is no regular file. */
int io_read_file(int dirfd, const char *name, size_t max, char **bytes_out, size_t *len_out);

/* A directory to be read, itself and not through a link: 0, or -errno and nothing is open. */
int io_open_dir(int dirfd, const char *name, DIR **out);

/* 0 when dirfd/name has no entries but "." and "..", -ENOTEMPTY when it has. */
int io_dir_empty(int dirfd, const char *name);

/* A directory of this path, made if it is not there (one level). The descriptor or -errno. */
int io_make_dir(int dirfd, const char *name, mode_t mode);

/* Bytes that dirfd/name and everything in it take on disk; what vanishes meanwhile counts or not. */
int io_disk_use(int dirfd, const char *name, uint64_t *bytes_out);

/* True when path is dir or lies below it; both absolute and without symlinks. */
bool io_lies_in(const char *path, const char *dir);

/* True when both are descriptors of one file or directory. */
bool io_is_same(int a, int b);
