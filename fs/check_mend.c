/*
 * check_mend: one action for each kind of damage that can be mended.
 * Invariant: takes away only what no state names; the tree changes through session_apply() alone.
 * Called by check_session.
 */
#include "check_mend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "content.h"
#include "io.h"

static int remove_layer(const struct store *store, uint32_t layer)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", layer);
	return io_remove_tree(store->session.layersfd, name);
}

static int cut_content(const struct store *store, const struct found *found)
{
	cleanup_fd int fd = content_open(store->session.layersfd, found->layer, found->ino, O_RDWR);

	if (fd < 0)
		return fd;
	return ftruncate(fd, (off_t)found->number) < 0 ? -errno : 0;
}

static int cut_journal(const struct store *store, const struct found *found)
{
	cleanup_fd int fd = -1;
	char name[32];

	snprintf(name, sizeof(name), "%u/journal", found->layer);
	fd = openat(store->session.layersfd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return ftruncate(fd, (off_t)found->number) < 0 ? -errno : 0;
}

static bool is_record(enum mend mend)
{
	return mend == MEND_CUT_TAIL || mend == MEND_LINKS || mend == MEND_PARENT || mend == MEND_ENTRY;
}

/* What is mended with the layers not loaded. */
static int mend_file(const struct store *store, const struct found *found)
{
	switch (found->mend) {
	case MEND_REMOVE_FILE:
		return unlinkat(store->session.dirfd, found->name, 0) < 0 ? -errno : 0;
	case MEND_REMOVE_LAYER:
		return remove_layer(store, found->layer);
	case MEND_REMOVE_CONTENT:
		return content_remove(store->session.layersfd, found->layer, found->ino);
	case MEND_CUT_CONTENT:
		return cut_content(store, found);
	case MEND_CUT_JOURNAL:
		return cut_journal(store, found);
	default:
		return -EINVAL;
	}
}

/* What a record mends, or loading the layers for changing them. */
static int mend_tree(struct session *s, const struct found *found)
{
	unsigned int field = found->mend == MEND_LINKS ? INODE_NLINK : INODE_PARENT;
	struct inode inode;
	int r;

	if (found->mend == MEND_CUT_TAIL)
		return 0; /* loading has */
	record_start(&s->record);
	if (found->mend == MEND_ENTRY) {
		if (!found->name)
			return -ENOMEM;
		record_entry(&s->record, found->ino, found->name, strlen(found->name), 0);
		return session_apply(s);
	}
	r = stack_inode(&s->stack, found->ino, &inode);
	if (r < 0)
		return r;
	inode.nlink = (uint32_t)found->number;
	inode.parent = found->number;
	record_inode(&s->record, &inode, field);
	return session_apply(s);
}

static int load(struct store *store, const struct log *log)
{
	struct log warned = store->session.log;
	int r;

	store->session.log = (struct log){0}; /* what it would say was found already */
	store->session.purpose = SESSION_MEND;
	r = store_load(store);
	store->session.log = warned;
	return r < 0 ? log_errno(log, r, "%s: its layers cannot be loaded for mending", store->session.label) : 0;
}

int check_mend(struct store *store, struct findings *findings, const struct log *log)
{
	for (size_t i = 0; i < findings->n; i++) {
		struct found *found = &findings->list[i];
		int r = 0;

		if (!found->shown.mendable || found->shown.mended)
			continue;
		if (is_record(found->mend) && !store->loaded)
			r = load(store, log);
		if (r < 0)
			return r;
		r = is_record(found->mend) ? mend_tree(&store->session, found) : mend_file(store, found);
		if (r < 0)
			log_errno(log, r, "%s: could not be mended", found->shown.where);
		found->shown.mended = r == 0;
	}
	return syncfs(store->session.dirfd) < 0 ? log_errno(log, -errno, "%s", store->session.label) : 0;
}
