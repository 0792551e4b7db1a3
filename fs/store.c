/*
 * store: owns the session's directory and its manifest.
 * Invariant: one process at a time has the lock; the directory is a session from the moment its first
 * manifest is there.
 * Called by snapshot, request and serve.
 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "format.h"
#include "io.h"
#include "merge.h"
#include "recovery.h"
#include "store_base.h"
#include "store_lock.h"

enum { FIRST_LAYER = 1 };

/*
 * 0 when the directory holds no session but may become one: it is empty, or has what a dead process began to make.
 * -ENOTEMPTY, or why it cannot be told.
 */
static int check_no_session(const struct store *store)
{
	cleanup_dir DIR *layers = NULL;
	struct dirent *entry;
	struct stat st;
	int r = io_open_dir(store->session.dirfd, "layers", &layers);

	if (r < 0)
		return r == -ENOENT || r == -ENOTDIR ? 0 : r;
	while ((errno = 0, entry = readdir(layers))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    strcmp(entry->d_name, "1") != 0)
			return -ENOTEMPTY;
	}
	if (errno)
		return -errno;
	if (fstatat(dirfd(layers), "1/journal", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > JOURNAL_HEADER_BYTES)
		return -ENOTEMPTY;
	r = io_dir_empty(dirfd(layers), "1/content");
	return r == -ENOENT ? 0 : r;
}

/* 0 when the directory has nothing but what umlfs itself puts there. */
static int check_only_ours(int dirfd)
{
	static const char *const ours[] = {
		".",   "..",           "lock",         "layers", "rootfs", "base.index", "base.index.new",
		"log", "manifest.new", "manifest.old", "running"};
	cleanup_dir DIR *dir = NULL;
	struct dirent *entry;
	int r = io_open_dir(dirfd, ".", &dir);

	if (r < 0)
		return r;
	while ((errno = 0, entry = readdir(dir))) {
		bool known = false;

		for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
			known = known || strcmp(entry->d_name, ours[i]) == 0;
		if (!known)
			return -ENOTEMPTY;
	}
	return -errno;
}

static void remove_half_made(const struct store *store)
{
	int dirfd = store->session.dirfd;

	unlinkat(dirfd, "manifest", 0);
	unlinkat(dirfd, "manifest.old", 0);
	unlinkat(dirfd, "running", 0);
	io_remove_tree(dirfd, "layers");
	unlinkat(dirfd, "base.index", 0);
	unlinkat(dirfd, "base.index.new", 0);
	unlinkat(dirfd, "rootfs", AT_REMOVEDIR);
	unlinkat(dirfd, "log", 0);
	unlinkat(dirfd, "lock", 0);
}

static int open_layers(struct store *store, bool is_new, const struct log *log)
{
	int dirfd = store->session.dirfd;
	int fd = is_new ? io_make_dir(dirfd, "layers", 0700)
	                : openat(dirfd, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return log_errno(log, is_new ? fd : -errno, "%s/layers", store->session.label);
	store->session.layersfd = fd;
	return 0;
}

static int make_session(struct store *store, const struct log *log)
{
	struct session *s = &store->session;
	struct manifest m = {.next_serial = 1, .next_layer = FIRST_LAYER + 1, .top = FIRST_LAYER};
	int r;

	m.base = index_id(s->base->index);
	m.next_ino = index_n_inodes(s->base->index) + 1;
	m.base_path = strdup(s->base->label);
	r = m.base_path ? manifest_add_layer(&m, FIRST_LAYER, 0) : -ENOMEM;
	if (r == 0)
		r = open_layers(store, true, log);
	if (r == 0)
		r = layer_create(s->layersfd, FIRST_LAYER);
	if (r == 0 && mkdirat(s->dirfd, "rootfs", 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r == 0)
		r = commit_manifest(&s->commit, s->dirfd, &m, false);
	if (r < 0) {
		manifest_fini(&m);
		return log_errno(log, r, "%s: cannot be made", s->label);
	}
	s->manifest = m;
	return 0;
}

static int read_manifest(struct store *store, bool look, const struct log *log)
{
	char label[PATH_MAX];
	int r;

	snprintf(label, sizeof(label), "%s/manifest", store->session.label);
	r = recovery_read_manifest(&store->session, label, look, log);
	if (r == 0 && !look && manifest_has_old(store->session.dirfd))
		commit_inherit(&store->session.commit);
	return r;
}

/* The journal of the layers that were loaded is closed, and what a power cut left is mended. */
static int settle_layers(struct session *s)
{
	int r = s->host_cut ? recovery_mend(s) : 0;

	if (r < 0)
		return r; /* it said why */
	if (s->marked && recovery_sweep(s) < 0)
		log_warning(&s->log, "%s: what a dead process left in its layer stays there", s->label);
	r = s->host_cut ? session_sync(s) : session_settle(s);
	if (r == -ENOSPC || r == -EDQUOT)
		return 0; /* the files stay dirty, which costs nothing; a full disk must not keep anybody from a reset */
	if (r < 0)
		return log_errno(&s->log, r, "%s: its journal cannot be written", s->label);
	s->host_cut = false;
	return 0;
}

static int load_layers(struct store *store)
{
	struct session *s = &store->session;
	int r;

	s->next_ino = s->manifest.next_ino;
	if (s->next_ino <= index_n_inodes(s->base->index)) /* numbers of the base, which a right manifest never gives */
		s->next_ino = index_n_inodes(s->base->index) + 1;
	s->next_serial = s->manifest.next_serial;
	r = session_load(s, &s->manifest, s->manifest.top, NULL, &s->stack);
	if (r < 0)
		return r;
	if (s->purpose != SESSION_LOOK)
		r = settle_layers(s);
	if (r < 0)
		session_unload(&s->stack, NULL);
	s->promised_end = s->next_ino;
	store->loaded = r == 0;
	return r;
}

int store_check_base(const struct store *store, const struct log *log)
{
	const struct base *base = store->session.base;
	cleanup_fd int now = open(base->label, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (io_is_same(base->treefd, now))
		return 0;
	return log_error(log, -ESTALE, "%s: was replaced while %s was being mounted: mount it again", base->label,
	                 store->session.label);
}

int store_load_base(struct store *store)
{
	return store->session.base ? 0 : store_base_from_copy(store, &store->session.log);
}

int store_mend_base(struct store *store, const struct log *log)
{
	return store_base_open(store, store->session.manifest.base_path, false, log);
}

int store_load(struct store *store)
{
	int r;

	if (store->loaded)
		return 0;
	r = store_load_base(store);
	return r < 0 ? r : load_layers(store);
}

/* Comes to one manifest that is on disk, and to the layers that it names: no others. */
static int settle_manifest(struct store *store)
{
	struct session *s = &store->session;
	int r = recovery_choose(s, false);

	if (r < 0)
		return r; /* it said why */
	if (!store->made_session)
		r = session_sync_manifest(s);
	if (r < 0)
		return log_errno(&s->log, r, "%s/manifest: cannot be synced", s->label);
	r = store_remove_dropped(s);
	return r < 0 ? log_errno(&s->log, r, "%s/layers: what was dropped cannot be removed", s->label) : 0;
}

/* So that commands which are not told find the base. A full disk keeps nobody from a mount. */
static int commit_base_path(struct store *store)
{
	struct session *s = &store->session;
	int r = store->base_moved ? commit_manifest(&s->commit, s->dirfd, &s->manifest, false) : 0;

	return r < 0 && r != -ENOSPC && r != -EDQUOT ? log_errno(&s->log, r, "%s/manifest", s->label) : 0;
}

/* The session on its base: made when it is not there. */
static int open_on_base(struct store *store, const char *base, const struct log *log)
{
	int r = read_manifest(store, false, log);
	bool is_new = r == -ENOENT;

	if (r < 0 && !is_new)
		return r;
	store->made_session = is_new;
	r = store_base_open(store, base, is_new, log);
	if (r == 0 && is_new)
		r = make_session(store, log);
	if (r == 0 && !is_new)
		r = open_layers(store, false, log);
	if (r == 0)
		r = settle_manifest(store);
	if (r == 0)
		r = commit_base_path(store);
	if (r == 0)
		r = merge_layers(store);
	if (r == 0 && !is_new)
		r = settle_manifest(store);
	return r < 0 ? r : load_layers(store);
}

int store_no_session(const char *path, int r, const struct log *log)
{
	if (r == -ENOENT)
		return log_error(log, r, "%s: no such session: `umlfs mount BASE %s` makes one", path, path);
	if (r == -ENOTDIR)
		return log_error(log, r, "%s: is no session: it is no directory: give that of a session, or a new name",
		                 path);
	return log_errno(log, r, "%s", path);
}

/* Of a directory that is there. */
static int no_manifest(const struct store *store, const struct log *log)
{
	const char *label = store->session.label;

	if (faccessat(store->session.dirfd, FORMAT_OWN_DIR "/index", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return log_error(log, -ENOENT,
		                 "%s: is a base, and no session: `umlfs mount %s SESSION` makes one on it", label,
		                 label);
	return log_error(log, -ENOENT, "%s: is no session: it has no manifest: `umlfs mount BASE SESSION` makes one",
	                 label);
}

static int open_alone(struct store *store, bool look, const struct log *log)
{
	int r = read_manifest(store, look, log);

	if (r == -ENOENT)
		return no_manifest(store, log);
	if (r == 0)
		r = open_layers(store, false, log);
	if (r == 0 && look) /* without the base's index nothing can be told of layers */
		return manifest_has_old(store->session.dirfd) && store_load_base(store) == 0
		               ? recovery_choose(&store->session, true)
		               : 0;
	if (r < 0 || !commit_pending(&store->session.commit))
		return r;
	r = store_load_base(store);
	return r < 0 ? r : settle_manifest(store);
}

static int open_directory(struct store *store, const struct store_options *o)
{
	if (o->base && mkdir(o->session, 0700) == 0)
		store->made_dir = true;
	else if (o->base && errno != EEXIST)
		return log_errno(o->log, -errno, "%s: cannot be made", o->session);
	store->session.dirfd = open(o->session, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store->session.dirfd < 0)
		return store_no_session(o->session, -errno, o->log);
	store->path = realpath(o->session, NULL);
	return store->path ? 0 : log_errno(o->log, -errno, "%s", o->session);
}

/* What another user made in it, which is root mostly, would be closed to its owner. */
static int check_owner(const struct store *store, uid_t owner, const struct log *log)
{
	if (owner == geteuid())
		return 0;
	return log_error(log, -EPERM,
	                 "%s: belongs to user %u: run it as that user, who could not use what this one makes there",
	                 store->session.label, (unsigned int)owner);
}

/* Before a lock file is made: is this a session, or may it become one? */
static int check_directory(const struct store *store, const struct store_options *o)
{
	const char *label = store->session.label, *base = o->base;
	const struct log *log = o->log;
	struct stat st;
	int r;

	if (fstatat(store->session.dirfd, "manifest", &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (!base || st.st_size > 0 || check_no_session(store) < 0)
			return o->look ? 0 : check_owner(store, st.st_uid, log);
		unlinkat(store->session.dirfd, "manifest", 0); /* the host went down while the session was made */
		errno = ENOENT;
	}
	r = errno == ENOENT ? check_no_session(store) : -errno;
	if (r == -ENOTEMPTY)
		return log_error(log, -EUCLEAN,
		                 "%s/manifest: missing, though the session has layers: restore it from a "
		                 "backup, or remove the session",
		                 label);
	if (r < 0)
		return log_errno(log, r, "%s", label);
	if (!base)
		return no_manifest(store, log);
	r = check_only_ours(store->session.dirfd);
	if (r == -ENOTEMPTY)
		return log_error(log, r, "%s: holds other files and is no session: give an empty or a new directory",
		                 label);
	return r < 0 ? log_errno(log, r, "%s", label) : 0;
}

static int open_parts(struct store *store, const struct store_options *o)
{
	int r = store_base_check_place(store, o->base, o->log);

	if (r == 0)
		r = check_directory(store, o);
	if (r == 0 && !o->live)
		r = store_lock(&store->session, o->look, &store->lockfd, o->log);
	session_look_back(&store->session);
	if (r == 0)
		r = handles_new(o->max_files, &store->session.handles);
	if (r < 0)
		return r;
	return o->base ? open_on_base(store, o->base, o->log) : open_alone(store, o->look, o->log);
}

int store_open(const struct store_options *o, struct store **out)
{
	struct store *store = calloc(1, sizeof(*store));
	int r;

	if (!store)
		return -ENOMEM;
	store->lockfd = -1;
	commit_init(&store->session.commit);
	store->session.dirfd = -1;
	store->session.layersfd = -1;
	store->session.log = o->log ? *o->log : (struct log){0};
	store->session.purpose = o->look ? SESSION_LOOK : SESSION_SERVE;
	store->session.copying = o->copying;
	store->session.table_min = o->table_min ? o->table_min : SESSION_TABLE_MIN;
	if (!o->copying.whole)
		store->session.copying.whole = SESSION_COPY_WHOLE;
	if (!o->copying.unit)
		store->session.copying.unit = SESSION_COPY_UNIT;
	store->session.label = strdup(o->session);
	r = store->session.label ? open_directory(store, o) : -ENOMEM;
	if (r == 0)
		r = open_parts(store, o);
	if (r < 0) {
		store_unmake(store);
		store_close(store);
		return r;
	}
	*out = store;
	return 0;
}

void store_unmake(struct store *store)
{
	if (store->made_session)
		remove_half_made(store);
	else if (store->made_dir && store->lockfd >= 0) /* ours, so nobody else made anything there */
		unlinkat(store->session.dirfd, "lock", 0);
	if (store->made_dir && rmdir(store->session.label) < 0 && store->path)
		rmdir(store->path); /* the working directory may have changed */
}

void store_close(struct store *store)
{
	struct session *s = &store->session;

	session_unload(&s->stack, NULL);
	base_free(s->base);
	handles_free(s->handles);
	manifest_fini(&s->manifest);
	commit_fini(&s->commit);
	close_fd(s->layersfd);
	close_fd(s->dirfd);
	close_fd(store->lockfd);
	free(s->label);
	free(store->path);
	free(store);
}

int store_commit(struct store *store, struct manifest *m, bool seals)
{
	int r;

	session_finish_removals(
		&store->session); /* a layer that is sealed is never swept, and one that goes is somebody else's */
	r = commit_manifest(&store->session.commit, store->session.dirfd, m, seals);

	if (r < 0)
		return r;
	manifest_fini(&store->session.manifest);
	store->session.manifest = *m;
	return 0;
}

int store_remove_dropped(struct session *s)
{
	cleanup_dir DIR *dir = NULL;
	struct dirent *entry;
	int result = commit_pending(&s->commit) ? 0 : io_open_dir(s->layersfd, ".", &dir);

	if (!dir)
		return result;
	while ((errno = 0, entry = readdir(dir))) {
		char *end;
		unsigned long id = strtoul(entry->d_name, &end, 10);
		int r;

		if (*end != '\0' || end == entry->d_name || manifest_layer(&s->manifest, (uint32_t)id))
			continue;
		r = io_remove_tree(s->layersfd, entry->d_name);
		if (r < 0)
			result = r;
	}
	return errno ? -errno : result;
}
