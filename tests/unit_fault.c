/*
 * unit_fault: stands between the library and libc, and counts.
 * Invariant: a call that is made to fail is not made; one that does half is made for half.
 * Called by the linker: with --wrap=NAME a call of NAME comes to __wrap_NAME(), and __real_NAME() is libc's. Names are
 * those that 64-bit offsets give (openat64). The list of them is in meson.build.
 */
#include "unit_fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "unit.h"

/* What a call is, as far as faults go. */
enum call {
	CALL_PLAIN = 0,
	CALL_ROOM = 1,   /* needs room on the disk */
	CALL_LENGTH = 2, /* answers how many bytes */
	CALL_APPEND = 8, /* to a journal */
	CALL_MEMORY = 4, /* an allocation, no system call */
	CALL_BYTES = 16, /* changes the bytes or the length of a file */
};

static struct {
	enum fault fault;
	bool armed, fired, kept; /* kept: the torn append could not be taken back once */
	unsigned int left;       /* calls to go, 0: this one */
	unsigned int nr;
	const char *name;
	char text[96];
} now;

void fault_arm(enum fault fault, unsigned int nr)
{
	now.fault = fault;
	now.nr = nr;
	now.left = nr - 1;
	now.fired = false;
	now.kept = false;
	now.name = "none";
	now.armed = true;
}

bool fault_disarm(void)
{
	now.armed = false;
	return now.fired;
}

const char *fault_text(void)
{
	static const char *const words[FAULTS] = {"EIO",
	                                          "ENOSPC",
	                                          "half of it",
	                                          "a torn append",
	                                          "no memory",
	                                          "a full disk",
	                                          "a disk that takes nothing"};

	snprintf(now.text, sizeof(now.text), "%s at call %u (%s)", words[now.fault], now.nr, now.name);
	return now.text;
}

unsigned int fault_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 3; /* ".", ".." and its own */
}

static bool can_fail(unsigned int call)
{
	switch (now.fault) {
	case FAULT_EIO:
	case FAULT_ENOSPC:
		return !(call & CALL_MEMORY);
	case FAULT_SHORT:
		return call & CALL_LENGTH;
	case FAULT_TORN:
		return call & CALL_APPEND;
	case FAULT_MEMORY:
		return call & CALL_MEMORY;
	case FAULT_FULL:
		return call & CALL_ROOM;
	case FAULT_BYTES:
		return call & CALL_BYTES;
	default:
		return false;
	}
}

/* True when this call is the one. Its errno is set. */
static bool hit(const char *name, unsigned int call)
{
	static const int errors[FAULTS] = {EIO, ENOSPC, 0, 0, ENOMEM, ENOSPC, EIO};

	if (!now.armed || !can_fail(call))
		return false;
	if (now.left > 0) {
		now.left--;
		return false;
	}
	if (now.fired && now.fault != FAULT_FULL && now.fault != FAULT_BYTES)
		return false;
	now.fired = true;
	now.name = name;
	errno = errors[now.fault];
	return true;
}

/* How many bytes a call shall do: len, half of it, or -1 when it fails. */
static ssize_t allowed(const char *name, unsigned int call, size_t len)
{
	if (now.armed && now.fault == FAULT_SHORT && len < 2)
		return (ssize_t)len;
	if (!hit(name, call))
		return (ssize_t)len;
	return now.fault == FAULT_SHORT || now.fault == FAULT_TORN ? (ssize_t)(len / 2) : -1;
}

/* A call that fails or not. */
#define WRAP(type, bad, call, name, params, args)                                                                      \
	type __real_##name params;                                                                                     \
	type __wrap_##name params;                                                                                     \
	type __wrap_##name params                                                                                      \
	{                                                                                                              \
		return hit(#name, call) ? (bad) : __real_##name args;                                                  \
	}

/* A call that fails, or does len bytes, or half of them. */
#define WRAP_LENGTH(call, name, params, args)                                                                          \
	ssize_t __real_##name params;                                                                                  \
	ssize_t __wrap_##name params;                                                                                  \
	ssize_t __wrap_##name params                                                                                   \
	{                                                                                                              \
		ssize_t n = allowed(#name, call, len);                                                                 \
                                                                                                                       \
		len = n < 0 ? 0 : (size_t)n;                                                                           \
		return n < 0 ? -1 : __real_##name args;                                                                \
	}

WRAP_LENGTH(CALL_LENGTH, read, (int fd, void *buf, size_t len), (fd, buf, len))
WRAP_LENGTH(CALL_LENGTH, pread64, (int fd, void *buf, size_t len, off64_t at), (fd, buf, len, at))
WRAP_LENGTH(CALL_LENGTH | CALL_ROOM | CALL_BYTES, pwrite64, (int fd, const void *buf, size_t len, off64_t at),
            (fd, buf, len, at))
WRAP_LENGTH(CALL_LENGTH | CALL_ROOM | CALL_BYTES, copy_file_range,
            (int src, off64_t *from, int dst, off64_t *to, size_t len, unsigned int flags),
            (src, from, dst, to, len, flags))

WRAP(int, -1, CALL_ROOM, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(int, -1, CALL_ROOM, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
WRAP(int, -1, CALL_ROOM, linkat, (int dir, const char *path, int to, const char *new, int flags),
     (dir, path, to, new, flags))
WRAP(int, -1, CALL_ROOM, renameat, (int dir, const char *path, int to, const char *new), (dir, path, to, new))
WRAP(int, -1, CALL_PLAIN, renameat2, (int dir, const char *path, int to, const char *new, unsigned int flags),
     (dir, path, to, new, flags))
WRAP(int, -1, CALL_ROOM | CALL_BYTES, fallocate64, (int fd, int mode, off64_t at, off64_t len), (fd, mode, at, len))
WRAP(int, -1, CALL_PLAIN, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
WRAP(int, -1, CALL_PLAIN, fsync, (int fd), (fd))
WRAP(int, -1, CALL_PLAIN, fdatasync, (int fd), (fd))
WRAP(int, -1, CALL_PLAIN, syncfs, (int fd), (fd))
WRAP(int, -1, CALL_PLAIN, fstat64, (int fd, struct stat64 *st), (fd, st))
WRAP(int, -1, CALL_PLAIN, fstatat64, (int dir, const char *path, struct stat64 *st, int flags), (dir, path, st, flags))
WRAP(int, -1, CALL_PLAIN, fstatvfs64, (int fd, struct statvfs64 *st), (fd, st))
WRAP(int, -1, CALL_PLAIN, faccessat, (int dir, const char *path, int mode, int flags), (dir, path, mode, flags))
WRAP(int, -1, CALL_PLAIN, fchmod, (int fd, mode_t mode), (fd, mode))
WRAP(int, -1, CALL_PLAIN, fchmodat, (int dir, const char *path, mode_t mode, int flags), (dir, path, mode, flags))
WRAP(int, -1, CALL_PLAIN, flock, (int fd, int what), (fd, what))
WRAP(off64_t, -1, CALL_PLAIN, lseek64, (int fd, off64_t at, int whence), (fd, at, whence))
WRAP(ssize_t, -1, CALL_PLAIN, readlinkat, (int dir, const char *path, char *buf, size_t size), (dir, path, buf, size))
WRAP(ssize_t, -1, CALL_PLAIN, llistxattr, (const char *path, char *names, size_t size), (path, names, size))
WRAP(ssize_t, -1, CALL_PLAIN, lgetxattr, (const char *path, const char *name, void *value, size_t size),
     (path, name, value, size))
WRAP(ssize_t, -1, CALL_PLAIN, getrandom, (void *buf, size_t size, unsigned int flags), (buf, size, flags))
WRAP(struct dirent64 *, NULL, CALL_PLAIN, readdir64, (DIR * dir), (dir))
WRAP(void *, (void *)-1, CALL_PLAIN, mmap64, (void *at, size_t len, int prot, int flags, int fd, off64_t offset),
     (at, len, prot, flags, fd, offset))

WRAP(void *, NULL, CALL_MEMORY, malloc, (size_t size), (size))
WRAP(void *, NULL, CALL_MEMORY, calloc, (size_t n, size_t size), (n, size))
WRAP(void *, NULL, CALL_MEMORY, realloc, (void *old, size_t size), (old, size))
WRAP(void *, NULL, CALL_MEMORY, reallocarray, (void *old, size_t n, size_t size), (old, n, size))
WRAP(char *, NULL, CALL_MEMORY, strdup, (const char *text), (text))
WRAP(char *, NULL, CALL_MEMORY, strndup, (const char *text, size_t len), (text, len))
WRAP(char *, NULL, CALL_MEMORY, realpath, (const char *path, char *out), (path, out))
WRAP(DIR *, NULL, CALL_MEMORY, fdopendir, (int fd), (fd))
WRAP(FILE *, NULL, CALL_MEMORY, open_memstream, (char **text, size_t *len), (text, len))
WRAP(int, EOF, CALL_MEMORY, fflush, (FILE * file), (file))

/* The stream is closed whatever it answers. */
int __real_fclose(FILE *file);
int __wrap_fclose(FILE *file);
int __wrap_fclose(FILE *file)
{
	bool failed = hit("fclose", CALL_MEMORY);
	int r = __real_fclose(file);

	if (failed)
		errno = ENOMEM;
	return failed ? EOF : r;
}

int __real_ftruncate64(int fd, off64_t size);
int __wrap_ftruncate64(int fd, off64_t size);
int __wrap_ftruncate64(int fd, off64_t size)
{
	if (now.armed && now.fault == FAULT_TORN && now.fired && !now.kept) {
		now.kept = true;
		errno = EIO;
		return -1;
	}
	return hit("ftruncate64", CALL_BYTES) ? -1 : __real_ftruncate64(fd, size);
}

static size_t iov_bytes(const struct iovec *parts, int n)
{
	size_t len = 0;

	for (int i = 0; i < n; i++)
		len += parts[i].iov_len;
	return len;
}

ssize_t __real_pwritev64(int fd, const struct iovec *parts, int n, off64_t at);
ssize_t __wrap_pwritev64(int fd, const struct iovec *parts, int n, off64_t at);
ssize_t __wrap_pwritev64(int fd, const struct iovec *parts, int n, off64_t at)
{
	size_t len = iov_bytes(parts, n);
	ssize_t some = allowed("pwritev64", CALL_LENGTH | CALL_ROOM | CALL_BYTES | CALL_APPEND, len);
	struct iovec cut[8];
	size_t left;

	if (some < 0 || (size_t)some == len)
		return some < 0 ? -1 : __real_pwritev64(fd, parts, n, at);
	assert_true(n <= (int)ARRAY_LEN(cut));
	left = (size_t)some;
	for (int i = 0; i < n; i++) {
		cut[i] = parts[i];
		if (cut[i].iov_len > left)
			cut[i].iov_len = left;
		left -= cut[i].iov_len;
	}
	return __real_pwritev64(fd, cut, n, at);
}

/* The mode that comes behind the flags, when one does. */
#define OPEN_MODE(flags, mode)                                                                                         \
	do {                                                                                                           \
		va_list args;                                                                                          \
                                                                                                                       \
		va_start(args, flags);                                                                                 \
		(mode) = (flags)&O_CREAT ? va_arg(args, mode_t) : 0;                                                   \
		va_end(args);                                                                                          \
	} while (0)

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	mode_t mode;

	OPEN_MODE(flags, mode);
	return hit("open64", flags & O_CREAT ? CALL_ROOM : CALL_PLAIN) ? -1 : __real_open64(path, flags, mode);
}

int __real_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...)
{
	mode_t mode;

	OPEN_MODE(flags, mode);
	return hit("openat64", flags & O_CREAT ? CALL_ROOM : CALL_PLAIN) ? -1 : __real_openat64(dir, path, flags, mode);
}

int __real_fcntl64(int fd, int what, ...);
int __wrap_fcntl64(int fd, int what, ...);
int __wrap_fcntl64(int fd, int what, ...)
{
	va_list args;
	long arg;

	va_start(args, what);
	arg = va_arg(args, long);
	va_end(args);
	return hit("fcntl64", CALL_PLAIN) ? -1 : __real_fcntl64(fd, what, arg);
}

int __real_ioctl(int fd, unsigned long what, ...);
int __wrap_ioctl(int fd, unsigned long what, ...);
int __wrap_ioctl(int fd, unsigned long what, ...)
{
	va_list args;
	long arg;

	va_start(args, what);
	arg = va_arg(args, long);
	va_end(args);
	return hit("ioctl", CALL_ROOM) ? -1 : __real_ioctl(fd, what, arg);
}

long __real_syscall(long nr, ...);
long __wrap_syscall(long nr, ...);
long __wrap_syscall(long nr, ...)
{
	long arg[6];
	va_list args;

	va_start(args, nr);
	for (unsigned int i = 0; i < ARRAY_LEN(arg); i++)
		arg[i] = va_arg(args, long);
	va_end(args);
	return hit("syscall", CALL_PLAIN) ? -1 : __real_syscall(nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}
