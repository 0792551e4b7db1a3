/*
 * import_place: owns the temporary directory.
 * Invariant: the base's name means what was there before, or the whole new base; a temporary directory that
 * nobody holds a lock on belongs to nobody. What is replaced is the base that was there in the beginning.
 * Called by import and base_commit.
 */
#include "import_place.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>

#include "cleanup.h"
#include "format.h"
#include "io.h"
#include "standing.h"

enum {
	RANDOM_LEN = 6,
	NAME_SHOWN = 200, /* bytes of the base's name in the temporary one, which has to be a name as well */
	PRIVATE = 0700,
};

enum there {
	THERE_NOTHING,
	THERE_EMPTY, /* an empty directory */
	THERE_BASE,
};

struct import_place {
	const struct log *log;
	char *path; /* as messages call the base */
	char *parent_path;
	char *name; /* in parent */
	int parent;
	enum there there;
	int old; /* the base that is there, -1: none; open, so that its inode number stays its own */
	char temporary[NAME_MAX + 1]; /* "" when there is none */
	int fd;                       /* of it, with the lock */
};

/* Cuts path into the directory and the name in it; both on the heap. */
static int split(const char *path, char **parent_out, char **name_out)
{
	size_t len = strlen(path);
	const char *name;

	while (len > 1 && path[len - 1] == '/')
		len--;
	name = memrchr(path, '/', len);
	name = name ? name + 1 : path;
	*name_out = strndup(name, len - (size_t)(name - path));
	/* Without the slash, unless it is all. */
	if (name > path + 1)
		*parent_out = strndup(path, (size_t)(name - path) - 1);
	else
		*parent_out = strdup(name > path ? "/" : ".");
	if (!*name_out || !*parent_out)
		return -ENOMEM;
	return **name_out ? 0 : -EINVAL;
}

/* Resolves the links in a path that is there, so that what they point to is replaced, not they. */
static int resolve(struct import_place *p, const char *base)
{
	cleanup_free char *real = realpath(base, NULL);
	int r;

	if (!real && errno != ENOENT)
		return log_errno(p->log, -errno, "%s", base);
	r = split(real ? real : base, &p->parent_path, &p->name);
	if (r == -EINVAL || (r == 0 && (strcmp(p->name, "..") == 0 || strcmp(p->name, ".") == 0)))
		return log_error(p->log, -EINVAL, "%s: cannot be the name of a base: give another", base);
	if (r < 0)
		return log_errno(p->log, r, "%s", base);
	p->parent = open(p->parent_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->parent < 0 && errno == ENOENT)
		return log_error(p->log, -ENOENT, "%s: no such directory: make it first, for the base", p->parent_path);
	if (p->parent < 0)
		return log_errno(p->log, -errno, "%s: the directory that the base is to be made in", p->parent_path);
	return 0;
}

/* 1 or 0, or -errno when it cannot be told. */
static int has_index(int dir)
{
	cleanup_fd int own = openat(dir, FORMAT_OWN_DIR, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (own < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EACCES ? 0 : -errno;
	if (fstatat(own, "index", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	return S_ISREG(st.st_mode);
}

static int look(struct import_place *p, bool force)
{
	cleanup_fd int dir = -1;
	struct stat st;
	int r;

	if (fstatat(p->parent, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : log_errno(p->log, -errno, "%s", p->path);
	dir = openat(p->parent, p->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 && errno != ENOTDIR && errno != ELOOP && errno != EACCES)
		return log_errno(p->log, -errno, "%s", p->path);
	r = dir < 0 ? -ENOTDIR : io_dir_empty(p->parent, p->name);
	if (r == 0) {
		p->there = THERE_EMPTY;
		return 0;
	}
	if (r == -ENOTEMPTY) {
		r = has_index(dir);
		if (r < 0)
			return log_errno(p->log, r, "%s", p->path);
	} else if (r != -ENOTDIR) {
		return log_errno(p->log, r, "%s", p->path);
	}
	if (r <= 0)
		return log_error(p->log, -EEXIST,
		                 "%s: is there and is no base of umlfs: give another name, or remove it", p->path);
	if (!force)
		return log_error(p->log, -EEXIST, "%s: is there: use --force to replace it", p->path);
	p->there = THERE_BASE;
	p->old = take_fd(&dir);
	return 0;
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* What has this name now: 1 when it is the directory, 0 when not, or -errno. */
static int is_named(const struct import_place *p, int dirfd, const char *name)
{
	struct stat named, st;

	if (fstat(dirfd, &st) < 0)
		return -errno;
	if (fstatat(p->parent, name, &named, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	return same(&named, &st);
}

/* The old base, by the name that it should have now: it is that still, and no session stands on it. */
static int check_old(const struct import_place *p, const char *name)
{
	struct standing_base base = {.fd = p->old, .instead = p->fd, .label = p->path};
	int r = is_named(p, p->old, name);

	if (r > 0)
		r = has_index(p->old);
	if (r < 0)
		return log_errno(p->log, r, "%s", p->path);
	if (r == 0)
		return log_error(p->log, -EEXIST,
		                 "%s: is not the base any more that was there when this began: nothing was replaced",
		                 p->path);
	return standing_check(&base, p->log);
}

int import_place_new(const char *base, bool force, const struct log *log, struct import_place **out)
{
	struct import_place *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->log = log;
	p->parent = p->old = p->fd = -1;
	p->path = strdup(base);
	r = p->path ? resolve(p, base) : -ENOMEM;
	if (r == 0)
		r = look(p, force);
	if (r == 0 && p->there == THERE_BASE)
		r = check_old(p, p->name);
	if (r < 0) {
		import_place_free(p);
		return r;
	}
	*out = p;
	return 0;
}

static const char *slash(const struct import_place *p)
{
	return strcmp(p->parent_path, "/") == 0 ? "" : "/";
}

void import_place_free(struct import_place *p)
{
	if (!p)
		return;
	if (p->temporary[0] && io_remove_tree(p->parent, p->temporary) < 0)
		log_warning(p->log, "%s%s%s: could not be removed: remove it by hand", p->parent_path, slash(p),
		            p->temporary);
	/* Only now: the lock keeps others from removing it at the same time. */
	close_fd(p->fd);
	close_fd(p->old);
	close_fd(p->parent);
	free(p->parent_path);
	free(p->name);
	free(p->path);
	free(p);
}

/* True when the directory `what` is `at` or one of those above it. */
static bool above(int at, const struct stat *what)
{
	cleanup_fd int dir = openat(at, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st, last = {0};

	while (dir >= 0 && fstat(dir, &st) == 0 && !same(&st, &last)) {
		int up;

		if (same(&st, what))
			return true;
		last = st;
		up = openat(dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		close_fd(dir);
		dir = up;
	}
	return false;
}

bool import_place_touches(const struct import_place *p, int dirfd)
{
	struct stat st;

	if (fstat(dirfd, &st) == 0 && above(p->parent, &st))
		return true;
	return fstatat(p->parent, p->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && above(dirfd, &st);
}

/* The temporary name without its random end, and how long it is. */
static size_t stem(const struct import_place *p, char *out, size_t size)
{
	return (size_t)snprintf(out, size, ".%.*s.importing-", NAME_SHOWN, p->name);
}

static bool is_leftover(const char *name, const char *stem, size_t stem_len)
{
	if (strncmp(name, stem, stem_len) != 0 || strlen(name) != stem_len + RANDOM_LEN)
		return false;
	for (name += stem_len; *name; name++) {
		if (!isalnum((unsigned char)*name))
			return false;
	}
	return true;
}

static void remove_leftover(struct import_place *p, const char *name)
{
	cleanup_fd int fd = openat(p->parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct standing_base base = {.fd = fd, .instead = -1, .label = name};

	/* Who holds the lock is alive; where locks cannot be had nobody can tell. */
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return;
	/* A base that was exchanged, and not put back. */
	if (standing_check(&base, NULL) < 0)
		return;
	if (io_remove_tree(p->parent, name) == 0)
		log_note(p->log, "%s: removed what an interrupted import had left (%s)", p->path, name);
}

static void remove_leftovers(struct import_place *p)
{
	char start[NAME_MAX + 1];
	size_t len = stem(p, start, sizeof(start));
	int fd = openat(p->parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		close_fd(fd);
		return;
	}
	while ((entry = readdir(dir))) {
		if (is_leftover(entry->d_name, start, len))
			remove_leftover(p, entry->d_name);
	}
}

static int random_name(struct import_place *p)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345"; /* 32: no remainder */
	unsigned char bytes[RANDOM_LEN];
	size_t len = stem(p, p->temporary, sizeof(p->temporary));

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -EIO;
	for (size_t i = 0; i < RANDOM_LEN; i++)
		p->temporary[len++] = letters[bytes[i] % (sizeof(letters) - 1)];
	p->temporary[len] = '\0';
	return 0;
}

/* One attempt: 0, -EAGAIN to try another name, -errno. */
static int make_temporary(struct import_place *p)
{
	cleanup_fd int fd = -1;
	int r = random_name(p);

	if (r == 0 && mkdirat(p->parent, p->temporary, PRIVATE) < 0)
		r = errno == EEXIST ? -EAGAIN : -errno;
	if (r < 0) {
		p->temporary[0] = '\0';
		return r;
	}
	/* The umask may have taken something from it. */
	if (fchmodat(p->parent, p->temporary, PRIVATE, 0) < 0)
		return -errno;
	fd = openat(p->parent, p->temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* Another import may have taken it for a leftover before the lock was there. */
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return -EAGAIN;
	r = is_named(p, fd, p->temporary);
	if (r <= 0)
		return r < 0 ? r : -EAGAIN;
	p->fd = take_fd(&fd);
	return 0;
}

int import_place_begin(struct import_place *p)
{
	int r;

	remove_leftovers(p);
	do {
		r = make_temporary(p);
	} while (r == -EAGAIN);
	if (r < 0)
		return log_errno(p->log, r, "%s: cannot make the base in this directory", p->parent_path);
	return p->fd;
}

char *import_place_temporary(const struct import_place *p)
{
	char *path;

	return asprintf(&path, "%s/%s", p->parent_path, p->temporary) < 0 ? NULL : path;
}

/* What has the temporary name is not ours to remove: it gets one that no import takes for a leftover. */
static void set_aside(struct import_place *p)
{
	char name[NAME_MAX + 1];
	const char *end = p->temporary + strlen(p->temporary) - RANDOM_LEN;

	snprintf(name, sizeof(name), ".%.*s.kept-%s", NAME_SHOWN, p->name, end);
	if (renameat2(p->parent, p->temporary, p->parent, name, RENAME_NOREPLACE) < 0)
		snprintf(name, sizeof(name), "%s", p->temporary);
	log_error(p->log, 0, "%s: what had this name a moment ago is %s%s%s now: move it away before the next import",
	          p->path, p->parent_path, slash(p), name);
	p->temporary[0] = '\0';
}

/* The new base, by the temporary name: nobody could see it, or for a moment only. */
static bool may_go(const struct import_place *p)
{
	struct standing_base base = {.fd = p->fd, .instead = p->old, .label = p->path};

	return is_named(p, p->fd, p->temporary) > 0 && standing_check(&base, NULL) == 0;
}

/* What was exchanged gets its name again. */
static void put_back(struct import_place *p)
{
	if (renameat2(p->parent, p->temporary, p->parent, p->name, RENAME_EXCHANGE) == 0) {
		if (!may_go(p))
			set_aside(p);
	} else if (errno == ENOENT && renameat2(p->parent, p->temporary, p->parent, p->name, RENAME_NOREPLACE) == 0) {
		p->temporary[0] = '\0';
	} else {
		set_aside(p);
	}
}

static int misplaced(const struct import_place *p)
{
	if (errno == EINVAL && p->there == THERE_BASE)
		return log_error(p->log, -EEXIST, "%s: this file system cannot replace it in one step: remove it first",
		                 p->path);
	return log_errno(p->log, -errno, "%s: cannot put the base in its place", p->path);
}

/*
 * A session that has it open shares the lock (store_base.c), also one that the mount table does not lead to because it was moved.
 * And while it has the temporary name, no other import takes it for a leftover. Where locks cannot be had nobody can tell.
 */
static int lock_old(const struct import_place *p)
{
	if (flock(p->old, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 0;
	return log_error(p->log, -EBUSY,
	                 "%s: is the base of a session that is mounted, or being replaced: unmount that, or give the "
	                 "new base another name",
	                 p->path);
}

/* Others go on meanwhile: looked at before, so that hardly ever anything has to be put back, and after, when it is certain. */
static int replace(struct import_place *p)
{
	int r = check_old(p, p->name);

	if (r == 0)
		r = lock_old(p);
	if (r < 0)
		return r;
	if (renameat2(p->parent, p->temporary, p->parent, p->name, RENAME_EXCHANGE) < 0)
		return misplaced(p);
	r = check_old(p, p->temporary);
	if (r < 0)
		put_back(p);
	return r;
}

static int put_in_place(struct import_place *p)
{
	unsigned int flags = p->there == THERE_NOTHING ? RENAME_NOREPLACE : 0;

	if (p->there == THERE_BASE)
		return replace(p);
	if (renameat2(p->parent, p->temporary, p->parent, p->name, flags) == 0)
		return 0;
	/* A file system that can only rename: an empty directory may be replaced, anything else still may
	 * not. */
	if (errno == EINVAL && flags == RENAME_NOREPLACE && renameat(p->parent, p->temporary, p->parent, p->name) == 0)
		return 0;
	return misplaced(p);
}

int import_place_commit(struct import_place *p)
{
	int r;

	if (syncfs(p->fd) < 0)
		return log_errno(p->log, -errno, "%s: cannot be brought to disk", p->path);
	r = put_in_place(p);
	if (r < 0)
		return r;
	/* Exchanged, the temporary name is the old base's: it goes when the place is freed. */
	if (p->there != THERE_BASE)
		p->temporary[0] = '\0';
	/* It is there, and that is no failure any more. */
	if (fsync(p->parent) < 0)
		log_warning(p->log, "%s: is there, but its directory could not be synced: it may not outlive a crash",
		            p->path);
	return 0;
}
