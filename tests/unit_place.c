/*
 * unit_place: makes and removes the directories that tests work in.
 * Invariant: a function that fails fails the test.
 * Called by the unit tests.
 */
#include "unit_place.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"
#include "unit.h"

static void remember_line(void *arg, enum log_level level, const char *line)
{
	struct place *p = arg;
	size_t used = strlen(p->lines);

	snprintf(p->lines + used, sizeof(p->lines) - used, "%s\n", line);
	p->n_errors += level == LOG_LEVEL_ERROR;
	p->n_warnings += level == LOG_LEVEL_WARNING;
}

void place_make(struct place *p)
{
	const char *root = getenv("UMLFS_UNIT_DIR");

	if (!root)
		root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	*p = (struct place){.fd = -1, .log = {.write = remember_line, .arg = p}};
	snprintf(p->path, sizeof(p->path), "%s/umlfs-unit-XXXXXX", root);
	assert_non_null(mkdtemp(p->path));
	p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p->fd >= 0);
}

void place_remove(struct place *p)
{
	if (p->fd < 0)
		return;
	close(p->fd);
	p->fd = -1;
	expect_status(io_remove_tree(AT_FDCWD, p->path), 0, "removing %s", p->path);
}

void place_forget_lines(struct place *p)
{
	p->lines[0] = '\0';
	p->n_errors = 0;
	p->n_warnings = 0;
}

void place_put(int dirfd, const char *path, const void *bytes, size_t len)
{
	int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	expect_status(io_write_all(fd, bytes, len, 0), 0, "writing %s", path);
	close(fd);
}

unsigned char *place_get(int dirfd, const char *path, size_t *len_out)
{
	char *bytes = NULL;

	expect_status(io_read_file(dirfd, path, 64 << 20, &bytes, len_out), 0, "reading %s", path);
	return (unsigned char *)bytes;
}

bool place_has(int dirfd, const char *path)
{
	return faccessat(dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void place_copy(const char *from, const char *to)
{
	char *argv[] = {(char[]){"cp"},          (char[]){"-a"},        (char[]){"--"},
	                (char *)(uintptr_t)from, (char *)(uintptr_t)to, NULL};
	int status = 0;
	pid_t pid;

	assert_int_equal(posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}
