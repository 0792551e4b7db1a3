/*
 * commit: owns manifest.old and the list of layers that wait for their deletion.
 * Invariant: while the manifest is not known to be on disk, manifest.old is there and no layer that it names is deleted.
 * Called by session, store and snapshot.
 */
#include "commit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"

void commit_init(struct commit *c)
{
	*c = (struct commit){.made = 0};
	pthread_mutex_init(&c->lock, NULL);
}

void commit_inherit(struct commit *c)
{
	pthread_mutex_lock(&c->lock);
	c->made++;
	c->sealed = true;
	pthread_mutex_unlock(&c->lock);
}

void commit_fini(struct commit *c)
{
	free(c->dropped);
	pthread_mutex_destroy(&c->lock);
}

int commit_manifest(struct commit *c, int dirfd, const struct manifest *m, bool seals)
{
	int r;

	pthread_mutex_lock(&c->lock);
	if (c->made == c->durable)
		manifest_keep_old(dirfd);
	r = manifest_write(dirfd, m);
	if (r == 0) {
		c->made++;
		c->top = m->top;
		c->sealed = c->sealed || seals;
	} else if (c->made == c->durable) {
		manifest_drop_old(dirfd);
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

uint64_t commit_made(struct commit *c)
{
	uint64_t made;

	pthread_mutex_lock(&c->lock);
	made = c->made;
	pthread_mutex_unlock(&c->lock);
	return made;
}

bool commit_pending(struct commit *c)
{
	bool pending;

	pthread_mutex_lock(&c->lock);
	pending = c->made != c->durable;
	pthread_mutex_unlock(&c->lock);
	return pending;
}

void commit_durable(struct commit *c, int dirfd, uint64_t nr)
{
	pthread_mutex_lock(&c->lock);
	if (c->made == nr && c->durable != nr) {
		manifest_drop_old(dirfd);
		c->durable = nr;
		c->sealed = false;
	}
	pthread_mutex_unlock(&c->lock);
}

static int sync_one(int dirfd, const char *name)
{
	cleanup_fd int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* The manifest and its empty top layer: all that is new when no layer was sealed. */
static int sync_names(int dirfd, int layersfd, uint32_t top)
{
	char name[32];
	int r;

	snprintf(name, sizeof(name), "%u/journal", top);
	r = sync_one(layersfd, name);
	snprintf(name, sizeof(name), "%u", top);
	if (r == 0)
		r = sync_one(layersfd, name);
	if (r == 0)
		r = sync_one(layersfd, ".");
	if (r == 0)
		r = sync_one(dirfd, "manifest");
	return r < 0 ? r : sync_one(dirfd, ".");
}

int commit_sync(struct commit *c, int dirfd, int layersfd, uint64_t nr, uint32_t top)
{
	bool needed, sealed;
	int r;

	pthread_mutex_lock(&c->lock);
	needed = nr == c->made && nr != c->durable;
	sealed = c->sealed;
	pthread_mutex_unlock(&c->lock);
	if (!needed)
		return 0;
	if (sealed)
		r = syncfs(dirfd) < 0 ? -errno : 0;
	else
		r = sync_names(dirfd, layersfd, top);
	if (r == 0)
		commit_durable(c, dirfd, nr);
	return r;
}

int commit_sync_last(struct commit *c, int dirfd, int layersfd)
{
	for (;;) {
		uint64_t nr;
		uint32_t top;
		int r;

		pthread_mutex_lock(&c->lock);
		nr = c->made;
		top = c->top; /* 0 after commit_inherit(), which needs none */
		pthread_mutex_unlock(&c->lock);
		r = commit_sync(c, dirfd, layersfd, nr, top);
		if (commit_made(c) == nr) /* else it may have failed because that one's layer is gone */
			return r;
	}
}

int commit_drop(struct commit *c, const uint32_t *layers, size_t n)
{
	uint32_t *grown;

	if (n == 0)
		return 0;
	pthread_mutex_lock(&c->lock);
	grown = reallocarray(c->dropped, c->n_dropped + n, sizeof(*grown));
	if (grown) {
		c->dropped = grown;
		memcpy(grown + c->n_dropped, layers, n * sizeof(*grown));
		c->n_dropped += n;
	}
	pthread_mutex_unlock(&c->lock);
	return grown ? 0 : -ENOMEM;
}

void commit_delete(struct commit *c, int layersfd)
{
	uint32_t *list = NULL;
	size_t n = 0;

	pthread_mutex_lock(&c->lock);
	if (c->made == c->durable) {
		list = take_ptr(&c->dropped);
		n = c->n_dropped;
		c->n_dropped = 0;
	}
	pthread_mutex_unlock(&c->lock);
	for (size_t i = 0; i < n; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%u", list[i]);
		io_remove_tree(layersfd, name);
	}
	free(list);
}
