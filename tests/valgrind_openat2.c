/*
 * valgrind_openat2: answers openat2(2) by openat(2), a component at a time.
 * Invariant: opens what the kernel would open for RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS, and asks it for every other call.
 * Called by the dynamic loader (LD_PRELOAD) under valgrind, which does not know the call (3.19).
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NAME_BYTES = 256, ARGS = 6 };

/* The component that path starts with: 0, or -errno. */
static int first_name(const char *path, size_t len, char name[NAME_BYTES])
{
	if (len >= NAME_BYTES)
		return -ENAMETOOLONG;
	memcpy(name, path, len);
	name[len] = '\0';
	if (*path == '/' || strcmp(name, "..") == 0)
		return -EXDEV;
	return len == 0 ? -ENOENT : 0;
}

/* A directory on the way; a symlink is ELOOP. */
static int step(int at, const char *name)
{
	int fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int error = fd < 0 ? errno : 0;
	struct stat st;

	if (error == ENOTDIR && fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
		error = ELOOP;
	return fd < 0 ? -error : fd;
}

static int open_last(int at, const char *name, const struct open_how *how)
{
	int fd = openat(at, name, (int)how->flags | O_NOFOLLOW, (mode_t)how->mode);

	return fd < 0 ? -errno : fd;
}

/* A descriptor, or -errno. */
static int open_beneath(int dirfd, const char *path, const struct open_how *how)
{
	int at = dirfd, fd;
	bool last;

	do {
		size_t len = strcspn(path, "/");
		char name[NAME_BYTES];

		fd = first_name(path, len, name);
		path += len + strspn(path + len, "/");
		last = *path == '\0';
		if (fd == 0)
			fd = last ? open_last(at, name, how) : step(at, name);
		if (at != dirfd)
			close(at);
		at = fd;
	} while (fd >= 0 && !last);
	return fd;
}

long syscall(long nr, ...)
{
	long (*real)(long nr, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	long arg[ARGS];
	va_list args;

	va_start(args, nr);
	for (int i = 0; i < ARGS; i++)
		arg[i] = va_arg(args, long);
	va_end(args);
	if (nr == SYS_openat2) {
		int fd = open_beneath((int)arg[0], (const char *)arg[1], (const struct open_how *)arg[2]);

		errno = fd < 0 ? -fd : errno;
		return fd < 0 ? -1 : fd;
	}
	return real(nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}
