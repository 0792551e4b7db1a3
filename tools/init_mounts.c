/*
 * init_mounts: builds the guest's tree of mounts below the directory that becomes its root.
 *
 * Nothing of it is written into the root, but for the places of shares and files that the root does not have.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* Up to 6.8 the mount data is the path itself, since then it is "hostfs=PATH". */
static int mount_hostfs(const char *host_path, const char *where, unsigned long flags)
{
	char data[64];

	if (mount("none", where, "hostfs", flags, host_path) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	snprintf(data, sizeof(data), "hostfs=%s", host_path);
	return mount("none", where, "hostfs", flags, data) < 0 ? -errno : 0;
}

/* What the root has no directory for, the guest does without. */
static int mount_if_there(const char *type, const char *where, unsigned long flags, const char *data)
{
	if (mount(type, where, type, flags, data) == 0 || errno == ENOENT || errno == ENOTDIR || errno == ENODEV)
		return 0;
	return init_failed(-errno, where);
}

static int mount_kernels(void)
{
	static const struct {
		const char *type, *where, *data;
		unsigned long flags;
	} all[] = {
		{"proc", INIT_NEW_ROOT "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"sysfs", INIT_NEW_ROOT "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"devtmpfs", INIT_NEW_ROOT "/dev", NULL, MS_NOSUID},
		{"devpts", INIT_NEW_ROOT "/dev/pts", "mode=0620,gid=5,ptmxmode=0666", MS_NOSUID | MS_NOEXEC},
		{"tmpfs", INIT_NEW_ROOT "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV},
		{"tmpfs", INIT_NEW_ROOT "/run", "mode=0755", MS_NOSUID | MS_NODEV},
	};

	static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
	                                       {"/proc/self/fd/0", "/dev/stdin"},
	                                       {"/proc/self/fd/1", "/dev/stdout"},
	                                       {"/proc/self/fd/2", "/dev/stderr"}};

	/* devtmpfs is the same everywhere in the guest: these are in no root. */
	mkdir("/dev/pts", 0755);
	mkdir("/dev/shm", 0755);
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		symlink(links[i][0], links[i][1]);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int r = mount_if_there(all[i].type, all[i].where, all[i].flags, all[i].data);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Makes the directories of a path that are not there, up to its last slash. */
static void make_parents(char *path)
{
	for (char *at = path + strlen(INIT_NEW_ROOT) + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		mkdir(path, 0755);
		*at = '/';
	}
}

static int place_of(const char *guest_path, char path[PATH_MAX])
{
	if (snprintf(path, PATH_MAX, INIT_NEW_ROOT "/%s", guest_path + (*guest_path == '/')) >= PATH_MAX)
		return -ENAMETOOLONG;
	make_parents(path);
	return 0;
}

static int mount_share(size_t number, const char *share)
{
	char host_path[32], path[PATH_MAX];
	const char *where = share + strlen("rw:");
	int r = place_of(where, path);

	snprintf(host_path, sizeof(host_path), "/share%zu/.", number);
	if (r == 0) {
		mkdir(path, 0755);
		r = mount_hostfs(host_path, path, strncmp(share, "ro:", 3) == 0 ? MS_RDONLY : 0);
	}
	return r < 0 ? init_failed(r, where) : 0;
}

static int mount_file(size_t number, const char *where)
{
	char from[32], path[PATH_MAX];
	int r = place_of(where, path);

	snprintf(from, sizeof(from), "/files/%zu", number);
	if (r == 0) {
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

		if (fd >= 0)
			close(fd);
		r = mount(from, path, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
	}
	return r < 0 ? init_failed(r, where) : 0;
}

int init_mount_input(int *dir_out)
{
	int r, fd;

	if (mkdir("/input", 0700) < 0)
		return init_failed(-errno, "/input");
	r = mount_hostfs("/input/.", "/input", 0);
	if (r < 0)
		return init_failed(r, "the host's standard input cannot be mounted");
	fd = open("/input", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return init_failed(-errno, "the host's standard input");
	*dir_out = fd;
	return 0;
}

int init_mount_all(const struct init_job *job)
{
	int r = mount_hostfs("/root/.", INIT_NEW_ROOT, 0);

	if (r < 0)
		return init_failed(r, "the root cannot be mounted with hostfs");
	r = mount_kernels();
	for (size_t i = 0; r == 0 && i < job->n_shares; i++)
		r = mount_share(i, job->shares[i]);
	for (size_t i = 0; r == 0 && i < job->n_files; i++)
		r = mount_file(i, job->files[i]);
	return r;
}
