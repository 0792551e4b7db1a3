/*
 * init_freeze: brings the command to rest for a snapshot, and wakes it.
 *
 * Owns a control group (kernel: admin-guide/cgroup-v2) that every process of the command is in. A host who has the guest's
 * management console asks with Ctrl-Alt-Del, which is a SIGINT here, and asks again to go on; which byte of a file
 * this process has locked says how far it is, in /proc/locks.
 *
 * Invariant: UMLFS_FROZEN is locked only while no process of the command can run and nothing it wrote is only here.
 */
#include "init.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#include "umlfs/guest.h"

enum { REST_MS = 8000 };

/* What is opened in the initramfs: a file to lock, /proc. */
static int lock_file = -1, proc = -1;

static void mark(short type, off_t byte)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	fcntl(lock_file, F_SETLK, &lock);
}

int init_freeze_open(void)
{
	int fd;

	mkdir("/cgroup", 0700);
	if (mount("cgroup2", "/cgroup", "cgroup2", 0, NULL) < 0 || mkdir("/cgroup/command", 0700) < 0)
		return -1;
	fd = open("/cgroup/command", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	mkdir("/proc", 0700);
	mount("proc", "/proc", "proc", 0, NULL);
	proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	lock_file = open("/rest", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0 && proc >= 0 && reboot(RB_DISABLE_CAD) == 0)
		mark(F_WRLCK, UMLFS_FREEZES);
	return fd;
}

static int put(int group, const char *file, const char *text)
{
	int fd = openat(group, file, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -errno : 0;
}

void init_freeze_enter(int group)
{
	if (group >= 0)
		put(group, "cgroup.procs", "0");
}

/* Returns when the group says that it is frozen; false: it is not to be had. */
static bool wait_frozen(int group)
{
	int fd = openat(group, "cgroup.events", O_RDONLY | O_CLOEXEC);
	struct pollfd poll_fd = {.fd = fd, .events = POLLPRI};
	bool frozen = false;
	char text[128];
	ssize_t n;

	do {
		n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
		text[n > 0 ? n : 0] = '\0';
		frozen = strstr(text, "frozen 1") != NULL;
	} while (n > 0 && !frozen && poll(&poll_fd, 1, REST_MS) > 0);
	if (fd >= 0)
		close(fd);
	return frozen;
}

/* Writes the dirty pages of a file that a link of /proc leads to, if that can be written through. */
static void write_pages(int dir, const char *name)
{
	struct stat link, st;
	int fd;

	if (fstatat(dir, name, &link, AT_SYMLINK_NOFOLLOW) < 0 || !(link.st_mode & S_IWUSR) ||
	    fstatat(dir, name, &st, 0) < 0 || !S_ISREG(st.st_mode))
		return;
	fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
	close(fd);
}

static DIR *open_dir(int at, const char *path)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

static void write_each(const char *pid, const char *kind)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "%.20s/%s", pid, kind);
	dir = open_dir(proc, path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] != '.')
			write_pages(dirfd(dir), entry->d_name);
	}
	if (dir)
		closedir(dir);
}

/* sync(2) of hostfs writes no page that was changed through a mapping (6.1): file by file it does. */
static void write_mapped(void)
{
	DIR *dir = open_dir(proc, ".");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		/* Not this process: whoever closes a file once loses its locks. */
		if (!isdigit((unsigned char)entry->d_name[0]) || strcmp(entry->d_name, "1") == 0)
			continue;
		write_each(entry->d_name, "map_files");
		write_each(entry->d_name, "fd");
	}
	if (dir)
		closedir(dir);
}

bool init_freeze_toggle(int group, bool frozen)
{
	if (!frozen && put(group, "cgroup.freeze", "1") == 0 && wait_frozen(group)) {
		write_mapped();
		sync();
		mark(F_WRLCK, UMLFS_FROZEN);
		return true;
	}
	mark(F_UNLCK, UMLFS_FROZEN);
	put(group, "cgroup.freeze", "0");
	return false;
}
