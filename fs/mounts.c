/*
 * mounts: reads the mount table, and tells which session a mount is of.
 * Invariant: shows no mount but of type fuse.umlfs, and asks one only whether its daemon is alive.
 * Called by unmount, mountpoint, unmounter, standing, control and the program.
 */
#include "umlfs/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>

#include "cleanup.h"
#include "mount_table.h"

/* The mount table writes space, tab, newline and backslash as \ooo. */
static void unescape(char *text)
{
	char *to = text;

	while (*text) {
		unsigned int byte;

		if (*text == '\\' && sscanf(text + 1, "%3o", &byte) == 1) {
			*to++ = (char)byte;
			text += 4;
			continue;
		}
		*to++ = *text++;
	}
	*to = '\0';
}

/* Cuts a line of mountinfo up: true when it is an umlfs mount. */
static bool parse_line(char *line, struct mount_info *out)
{
	char *fields[5];
	char *rest = line;
	char *behind, *type, *source, *user;

	for (int i = 0; i < 5; i++)
		fields[i] = strsep(&rest, " ");
	behind = rest ? strstr(rest, " - ") : NULL;
	if (!behind)
		return false;
	behind += 3;
	type = strsep(&behind, " ");
	source = strsep(&behind, " ");
	user = behind ? strstr(behind, "user_id=") : NULL; /* an option of every FUSE mount */
	if (!source || !user || strcmp(type, "fuse.umlfs") != 0)
		return false;
	unescape(fields[4]);
	unescape(source);
	out->mountpoint = fields[4];
	out->session = source;
	out->device = fields[2];
	out->user = (uid_t)strtoul(user + strlen("user_id="), NULL, 10);
	return true;
}

int mount_table_each(const char *path, int (*visit)(void *arg, const struct mount_info *mount), void *arg)
{
	FILE *table = fopen(path, "re");
	cleanup_free char *line = NULL;
	size_t size = 0;
	int r = 0;

	if (!table)
		return -errno;
	while (r == 0 && getline(&line, &size, table) > 0) {
		struct mount_info mount;

		line[strcspn(line, "\n")] = '\0';
		if (parse_line(line, &mount))
			r = visit(arg, &mount);
	}
	fclose(table);
	return r;
}

int mounts_each(int (*visit)(void *arg, const struct mount_info *mount), void *arg)
{
	return mount_table_each("/proc/self/mountinfo", visit, arg);
}

int mount_table_lock(const char *session)
{
	cleanup_free char *path = NULL;
	int fd;

	if (asprintf(&path, "%s/lock", session) < 0)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* Of what mount_table_lock() answered: no session is there. */
static bool is_vacant(int lock)
{
	return lock == -ENOENT || lock == -ENOTDIR;
}

bool mount_table_has_device(int lock, const char *device)
{
	struct store_lock_note note = store_lock_read(lock);

	return strcmp(note.device, device) == 0;
}

/* There may be another session where the one that is mounted was, with a mount that got the number. */
static bool is_another_s(const struct mount_info *mount)
{
	cleanup_fd int lock = mount_table_lock(mount->session);

	return lock >= 0 && mount_table_has_device(lock, mount->device);
}

int mount_table_match(void *arg, const struct mount_info *mount)
{
	struct mount_search *search = arg;

	if (strcmp(mount->session, search->session) != 0 ||
	    (*search->device && strcmp(mount->device, search->device) != 0) || (search->moved && is_another_s(mount)))
		return 0;
	search->found = strdup(mount->mountpoint);
	return 1;
}

/* Its daemon died before it could write down what it was. */
static int match_dead(void *arg, const struct mount_info *mount)
{
	const struct mount_search *search = arg;

	return strcmp(mount->session, search->session) == 0 && !mounts_answers(mount->mountpoint)
	               ? mount_table_match(arg, mount)
	               : 0;
}

/* A session that was copied has the other's note; the mount of which somebody else serves. */
static bool is_only_a_copy(int lock, const char *mountpoint)
{
	bool unused = flock(lock, LOCK_SH | LOCK_NB) == 0;

	if (unused)
		flock(lock, LOCK_UN);
	return unused && mounts_answers(mountpoint);
}

/* Of a directory that has no lock nobody knows more than its path. */
int mounts_find_session(const char *session, char **mountpoint_out)
{
	cleanup_fd int lock = mount_table_lock(session);
	struct store_lock_note note = store_lock_read(lock);
	struct mount_search search = {.session = lock < 0 ? session : note.session,
	                              .device = note.device,
	                              .moved = lock >= 0 && strcmp(session, note.session) != 0};
	int r = lock >= 0 && !*note.device ? 0 : mounts_each(mount_table_match, &search);

	if (r == 0) {
		search = (struct mount_search){.session = session, .device = ""};
		r = mounts_each(match_dead, &search);
	}
	if (r > 0 && search.moved && search.found && is_only_a_copy(lock, search.found)) {
		free(search.found);
		return -ENOENT;
	}
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*mountpoint_out = search.found;
	return *mountpoint_out ? 0 : -ENOMEM;
}

static int look_at(void *arg, const struct mount_info *mount)
{
	struct mount_place *place = arg;

	if (strcmp(mount->mountpoint, place->mountpoint) != 0)
		return 0;
	snprintf(place->device, sizeof(place->device), "%s", mount->device);
	snprintf(place->session, sizeof(place->session), "%s", mount->session);
	place->user = mount->user;
	return 1;
}

int mount_table_find(const char *mountpoint, struct mount_place *out)
{
	int r;

	*out = (struct mount_place){.mountpoint = mountpoint};
	r = mounts_each(look_at, out);
	return r > 0 ? 0 : r < 0 ? r : -ENOENT;
}

int mounts_find_mountpoint(const char *mountpoint, char **session_out)
{
	struct mount_place place;
	int r = mount_table_find(mountpoint, &place);

	if (r < 0)
		return r;
	*session_out = strdup(place.session);
	return *session_out ? 0 : -ENOMEM;
}

/* Its own mountpoint moves along with a session. */
int mounts_session_of(const struct mount_info *mount, char path[PATH_MAX])
{
	cleanup_fd int lock = mount_table_lock(mount->session);
	cleanup_fd int moved = -1;
	char *end;

	snprintf(path, PATH_MAX, "%s", mount->session);
	if (!is_vacant(lock) && (lock < 0 || mount_table_has_device(lock, mount->device)))
		return 0;
	snprintf(path, PATH_MAX, "%s", mount->mountpoint);
	end = strrchr(path, '/');
	if (!end || strcmp(end, "/rootfs") != 0)
		return -ENOENT;
	*end = '\0';
	moved = mount_table_lock(path);
	return moved >= 0 && mount_table_has_device(moved, mount->device) ? 0 : -ENOENT;
}

bool mounts_means_dead(int error)
{
	return error == ENOTCONN || error == ECONNABORTED;
}

bool mounts_answers(const char *mountpoint)
{
	struct statvfs st;

	return statvfs(mountpoint, &st) == 0 || !mounts_means_dead(errno);
}

/* A session that is not at its path may be gone, have been moved, or be seen from another root: then the kernel is asked. */
bool mounts_is_dead(const struct mount_info *mount)
{
	cleanup_fd int lock = mount_table_lock(mount->session);

	if (is_vacant(lock) || (lock >= 0 && !mount_table_has_device(lock, mount->device)))
		return !mounts_answers(mount->mountpoint);
	return lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0;
}
