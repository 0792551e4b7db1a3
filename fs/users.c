/*
 * users: reads the links in /proc; never follows one, so that a dead mount cannot hang it.
 * Invariant: says yes only for a path that the kernel itself showed.
 * Called by control before a reset, and by mounts when a mountpoint is busy.
 */
#include "users.h"

#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "proc.h"

static bool is_below(const char *path, const char *mountpoint)
{
	size_t prefix = strlen(mountpoint);

	return strncmp(path, mountpoint, prefix) == 0 && path[prefix] == '/';
}

static bool link_is_below(int dirfd, const char *name, const char *mountpoint, char path[PATH_MAX])
{
	ssize_t len = readlinkat(dirfd, name, path, PATH_MAX - 1);
	size_t prefix = strlen(mountpoint);

	if (len <= 0)
		return false;
	path[len] = '\0';
	return is_below(path, mountpoint) || (strncmp(path, mountpoint, prefix) == 0 &&
	                                      (path[prefix] == '\0' || strcmp(path + prefix, " (deleted)") == 0));
}

static bool uses_files(int proc, const char *mountpoint, char path[PATH_MAX])
{
	int fd = openat(proc, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		close_fd(fd);
		return false;
	}
	while ((entry = readdir(dir))) {
		if (link_is_below(fd, entry->d_name, mountpoint, path))
			return true;
	}
	return false;
}

static void read_name(int proc, char *name, size_t size)
{
	cleanup_fd int fd = openat(proc, "comm", O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, name, size - 1);

	name[len > 0 ? len - 1 : 0] = '\0';
}

/*
 * Kernel threads, the dead, and processes that the caller may not look into show no program: they use no
 * file, or cannot be asked.
 */
static bool shows_program(int procfs, const char *pid)
{
	char link[32];
	char byte;

	snprintf(link, sizeof(link), "%.24s/exe", pid);
	return readlinkat(procfs, link, &byte, 1) >= 0;
}

bool users_find(const char *mountpoint, pid_t except, struct users_found *out)
{
	cleanup_dir DIR *dir = opendir("/proc");
	const pid_t self = getpid();
	struct dirent *entry;
	char path[PATH_MAX];

	while (dir && (entry = readdir(dir))) {
		pid_t pid = (pid_t)atoi(entry->d_name);
		cleanup_fd int proc = -1;

		if (pid <= 0 || pid == self || pid == except || !shows_program(dirfd(dir), entry->d_name))
			continue;
		proc = openat(dirfd(dir), entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (proc < 0)
			continue;
		if (!link_is_below(proc, "cwd", mountpoint, path) && !link_is_below(proc, "root", mountpoint, path) &&
		    !link_is_below(proc, "exe", mountpoint, path) && !uses_files(proc, mountpoint, path))
			continue;
		out->pid = pid;
		read_name(proc, out->name, sizeof(out->name));
		snprintf(out->path, sizeof(out->path), "%.*s", (int)sizeof(out->path) - 1, path);
		return true;
	}
	return false;
}

static void found_in_kernel(struct users_found *out, const char *name, const char *path)
{
	out->pid = 0;
	snprintf(out->name, sizeof(out->name), "%.31s", name);
	snprintf(out->path, sizeof(out->path), "%.255s", path);
}

static bool find_mount(const char *mountpoint, struct users_found *out)
{
	FILE *table = setmntent("/proc/self/mounts", "re");
	const struct mntent *mount;
	bool found = false;

	while (table && !found && (mount = getmntent(table))) {
		found = is_below(mount->mnt_dir, mountpoint);
		if (found)
			found_in_kernel(out, "a mount", mount->mnt_dir);
	}
	if (table)
		endmntent(table);
	return found;
}

static bool find_loop(const char *mountpoint, struct users_found *out)
{
	cleanup_dir DIR *dir = opendir("/sys/block");
	char path[PATH_MAX], file[64];
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "loop", 4) != 0)
			continue;
		snprintf(file, sizeof(file), "/sys/block/%.32s/loop/backing_file", entry->d_name);
		proc_read(file, path, sizeof(path));
		if (is_below(path, mountpoint)) {
			path[strcspn(path, "\n")] = '\0';
			found_in_kernel(out, entry->d_name, path);
			return true;
		}
	}
	return false;
}

bool users_find_in_kernel(const char *mountpoint, struct users_found *out)
{
	return find_mount(mountpoint, out) || find_loop(mountpoint, out);
}
