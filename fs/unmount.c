/*
 * unmount: takes umlfs mounts away, and waits for their daemons.
 * Invariant: touches no mount but of type fuse.umlfs; detaches none that is in use and whose daemon is alive, unless told to.
 * Called by mountpoint, unmounter and the program.
 */
#include "umlfs/mounts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "mount_table.h"
#include "users.h"

enum {
	SETTLE_MS = 10000,
	BUSY_LOOKS = 50,
	BUSY_MS = 20,
	END_MS = 100,
	ELSEWHERE_LOOKS = 5,   /* of END_MS: is another mount in the way? */
	NAMESPACE_LOOKS = 200, /* or one in another namespace, such as services have for a moment when they start */
};

extern char **environ;

/* Runs fusermount3 quietly: 0 when it did its job. */
static int run_fusermount(const char *mountpoint, bool detach)
{
	const char *argv[] = {"fusermount3", "-u", "-q", detach ? "-z" : "--", mountpoint, NULL};
	posix_spawn_file_actions_t actions;
	int status, r;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	r = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0)
		return -r;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

static int unmount_once(const char *mountpoint, bool detach)
{
	if (geteuid() != 0)
		return run_fusermount(mountpoint, detach);
	return umount2(mountpoint, UMOUNT_NOFOLLOW | (detach ? MNT_DETACH : 0)) < 0 ? -errno : 0;
}

static bool is_gone(const char *mountpoint)
{
	cleanup_free char *session = NULL;

	return mounts_find_mountpoint(mountpoint, &session) == -ENOENT;
}

int mounts_unmount(const char *mountpoint, bool detach, const struct log *log)
{
	struct users_found user;
	int r = unmount_once(mountpoint, detach);

	/* Used by nobody: by who looks into /proc at this moment, or has ended and not let go of everything yet. */
	for (int i = 0; r == -EBUSY && !is_gone(mountpoint) && i < BUSY_LOOKS; i++) {
		if (users_find(mountpoint, -1, &user))
			return log_error(log, r, "%s: in use by process %d (%s): %s: end it first", mountpoint,
			                 (int)user.pid, user.name, user.path);
		poll(NULL, 0, BUSY_MS);
		r = unmount_once(mountpoint, detach);
	}
	if (r == -ENOENT && geteuid() != 0)
		return log_error(log, r, "fusermount3: not found: install the package fuse3");
	if (r < 0 && is_gone(mountpoint))
		return log_error(log, -ENOENT, "%s: nothing of umlfs is mounted there", mountpoint);
	if (r == -EBUSY && users_find_in_kernel(mountpoint, &user))
		return log_error(log, r, "%s: in use by %s: %s: unmount that first", mountpoint, user.name, user.path);
	if (r < 0)
		return log_errno(log, r, "%s: cannot be unmounted", mountpoint);
	return 0;
}

/* The session and mountpoint that `what` means, both on the heap. */
static int resolve(const char *what, char **session_out, char **mountpoint_out)
{
	cleanup_free char *real = realpath(what, NULL);
	const char *path = real ? real : what; /* a dead mount cannot be resolved: then it must be given as mounted */
	int r = mounts_find_session(path, mountpoint_out);

	if (r == 0) {
		*session_out = strdup(path);
		return *session_out ? 0 : -ENOMEM;
	}
	r = mounts_find_mountpoint(path, session_out);
	if (r == 0) {
		*mountpoint_out = strdup(path);
		return *mountpoint_out ? 0 : -ENOMEM;
	}
	return r;
}

/* A dead mountpoint that was not given as an absolute path: its directory can still be resolved. */
static int resolve_by_parent(const char *what, char **session_out, char **mountpoint_out)
{
	char copy[PATH_MAX];
	cleanup_free char *parent = NULL;
	cleanup_free char *path = NULL;
	char *slash;

	if (snprintf(copy, sizeof(copy), "%s", what) >= (int)sizeof(copy))
		return -ENAMETOOLONG;
	slash = strrchr(copy, '/');
	if (slash)
		*slash = '\0';
	parent = realpath(!slash ? "." : *copy ? copy : "/", NULL);
	if (!parent || asprintf(&path, "%s/%s", parent, slash ? slash + 1 : copy) < 0)
		return -ENOENT;
	return resolve(path, session_out, mountpoint_out);
}

/* The daemon that has written its number into the lock; pidfd -1 when that tells nothing. */
struct daemon {
	pid_t pid;
	int pidfd;
};

static struct daemon open_daemon(int lock)
{
	pid_t pid = store_lock_read(lock).pid;

	return (struct daemon){.pid = pid, .pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1};
}

static bool has_ended(const struct daemon *daemon, int ms)
{
	struct pollfd fd = {.fd = daemon->pidfd, .events = POLLIN};

	return poll(&fd, 1, ms) > 0;
}

/* Where the file system is still mounted here, or NULL; on the heap. */
static char *find_here(const struct mount_search *copies)
{
	struct mount_search search = *copies;

	return mounts_each(mount_table_match, &search) > 0 ? search.found : NULL;
}

/* A process that has it in its mount namespace, as far as the caller may look; 0: none. */
static pid_t find_in_namespaces(const struct mount_search *copies)
{
	cleanup_dir DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		struct mount_search search = *copies;
		char path[64];

		snprintf(path, sizeof(path), "/proc/%.24s/mountinfo", entry->d_name);
		if (atoi(entry->d_name) > 0 && mount_table_each(path, mount_table_match, &search) > 0) {
			free(search.found);
			return (pid_t)atoi(entry->d_name);
		}
	}
	return 0;
}

/* It is unmounted: what else keeps its daemon? -EBUSY when that is another mount here; of a namespace, which may soon end, it is told. */
static int look_elsewhere(const char *what, const struct mount_search *copies, const struct log *log, bool everywhere)
{
	cleanup_free char *where = find_here(copies);
	pid_t pid = !where && everywhere ? find_in_namespaces(copies) : 0;

	if (where)
		return log_error(log, -EBUSY, "%s: unmounted, but also mounted at %s: unmount that, too", what, where);
	if (pid > 0)
		log_note(log,
		         "%s: unmounted, but process %d has it in another mount namespace: waiting until that ends",
		         what, (int)pid);
	return 0;
}

/*
 * Returns when the daemon has ended. Where its number is one of another PID namespace, and may be another process here: when nobody
 * has the lock, or the next one. -EBUSY: see look_elsewhere().
 */
static int wait_for_end(const struct daemon *daemon, int lock, const char *what, const struct mount_search *copies,
                        const struct log *log)
{
	int r = 0;

	for (unsigned int i = 1; r == 0 && !has_ended(daemon, END_MS); i++) {
		if (store_lock_read(lock).pid != daemon->pid)
			return 0;
		if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
			if (daemon->pidfd >= 0)
				has_ended(daemon, SETTLE_MS);
			return 0;
		}
		if (*copies->device && i % ELSEWHERE_LOOKS == 0)
			r = look_elsewhere(what, copies, log, i == NAMESPACE_LOOKS);
	}
	return r;
}

/* Of the session that is mounted there; -ENOENT when it is nowhere that anybody knows. */
static int open_lock_of(const char *session, const struct mount_place *place)
{
	const struct mount_info mount = {place->session, place->mountpoint, place->device, place->user};
	char now[PATH_MAX];
	cleanup_fd int lock = mount_table_lock(mounts_session_of(&mount, now) == 0 ? now : session);

	return lock < 0 || mount_table_has_device(lock, place->device) ? take_fd(&lock) : -ENOENT;
}

/* Ends what is mounted in the place. */
static int end_mount(const char *what, const char *session, const struct mount_place *place, const struct log *log)
{
	cleanup_fd int lock = open_lock_of(session, place);
	bool dead = lock >= 0 ? flock(lock, LOCK_EX | LOCK_NB) == 0 : !mounts_answers(place->mountpoint);
	struct daemon daemon = {.pidfd = -1};
	int r;

	if (lock >= 0 && !dead)
		daemon = open_daemon(lock);
	r = mounts_unmount(place->mountpoint, dead, log);
	if (r == 0 && dead)
		log_note(log, "%s: its daemon was dead: detached", place->mountpoint);
	else if (r == 0 && lock < 0)
		log_note(log,
		         "%s: unmounted, but its session is not at %s: its daemon may be at work there for a moment",
		         what, session);
	else if (r == 0)
		r = wait_for_end(&daemon, lock, what,
		                 &(struct mount_search){.session = place->session, .device = place->device}, log);
	close_fd(daemon.pidfd);
	return r;
}

int mounts_end(const char *what, const struct log *log)
{
	cleanup_free char *session = NULL;
	cleanup_free char *mountpoint = NULL;
	struct mount_place place;
	int r = resolve(what, &session, &mountpoint);

	if (r == -ENOENT)
		r = resolve_by_parent(what, &session, &mountpoint);
	if (r == 0)
		r = mount_table_find(mountpoint, &place);
	if (r < 0)
		return log_error(log, r, "%s: nothing of umlfs is mounted there: `umlfs status` lists what is mounted",
		                 what);
	if (geteuid() != 0 && place.user != geteuid())
		return log_error(log, -EPERM, "%s: user %u has mounted it: unmount it as that user", what,
		                 (unsigned int)place.user);
	return end_mount(what, session, &place, log);
}

void mounts_settle(const char *session)
{
	cleanup_free char *path = realpath(session, NULL);
	cleanup_free char *mountpoint = NULL;
	cleanup_fd int lock = path ? mount_table_lock(path) : -1;
	struct daemon daemon;

	if (lock < 0 || mounts_find_session(path, &mountpoint) != -ENOENT || flock(lock, LOCK_EX | LOCK_NB) == 0)
		return;
	daemon = open_daemon(lock);
	if (daemon.pidfd < 0)
		return;
	/* It may also be one that has not mounted yet. */
	for (int ms = 0; ms < SETTLE_MS && !has_ended(&daemon, BUSY_MS); ms += BUSY_MS) {
		if (mounts_find_session(path, &mountpoint) != -ENOENT)
			break;
	}
	close_fd(daemon.pidfd);
}
