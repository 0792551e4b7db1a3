/*
 * removals: owns the list of content files that are to go, and the thread that removes them.
 * Invariant: a batch is being filled, or free, or with the thread, which alone uses synced_layer and synced.
 * Called by session and serve, by one thread at a time.
 */
#include "removals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "content.h"
#include "worker.h"

/*
 * One hand-over costs about as much as one removal; and who waits for all of them shall not wait long. Where a sync comes before
 * them there may be more: it does for all that wait.
 */
enum { BATCHES = 32, BATCHES_UNSYNCED = 8, BATCH = 64 };

enum { GATHERING = 10 }; /* ms: so long a batch waits for more */

struct batch {
	struct job job;
	struct removals *owner;
	struct batch *next; /* that is free */
	unsigned int n;
	uint32_t layer;   /* of all */
	uint64_t records; /* bytes of its journal that come to the disk before; 0: none */
	uint64_t files[BATCH];
};

struct removals {
	int layersfd;
	struct worker *worker;
	struct batch *filling, *free;
	int64_t begun; /* ms: when the one being filled was empty */
	unsigned int given;
	_Atomic uint64_t written; /* what the last file asked for */
	uint32_t failed_layer;    /* whose journal could not be synced: the host tells so once only. 0: none */
	uint32_t synced_layer;
	uint64_t synced; /* bytes of its journal that are on disk */
	struct batch batches[BATCHES];
};

int removals_new(int layersfd, struct removals **out)
{
	struct removals *r = calloc(1, sizeof(*r));
	int e = r ? worker_new(&r->worker) : -ENOMEM;

	if (e < 0) {
		free(r);
		return e;
	}
	r->layersfd = layersfd;
	for (unsigned int i = 0; i < BATCHES; i++) {
		r->batches[i].owner = r;
		r->batches[i].next = r->free;
		r->free = &r->batches[i];
	}
	*out = r;
	return 0;
}

void removals_free(struct removals *r)
{
	if (!r)
		return;
	removals_push(r);
	worker_free(r->worker);
	free(r);
}

/* With a descriptor of its own: an error that this one is told of is told to who syncs a file, too. */
static bool sync_records(struct removals *r, const struct batch *b)
{
	uint64_t written = r->written;
	char path[32];
	cleanup_fd int fd = -1;

	if (b->records == 0 || (b->layer == r->synced_layer && b->records <= r->synced))
		return true;
	snprintf(path, sizeof(path), "%u/journal", b->layer);
	fd = openat(r->layersfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || b->layer <= r->failed_layer)
		return false;
	if (fdatasync(fd) < 0) {
		r->failed_layer = b->layer; /* and all before it */
		return false;
	}
	r->synced_layer = b->layer;
	r->synced = written;
	return true;
}

/* What cannot be removed stays until the layer goes, or `umlfs check --repair` finds it. */
static void remove_files(struct job *job)
{
	const struct batch *b = (const struct batch *)job;

	if (!sync_records(b->owner, b))
		return;
	for (unsigned int i = 0; i < b->n; i++)
		content_remove(b->owner->layersfd, b->layer, b->files[i]);
}

static void removed(struct job *job)
{
	struct batch *b = (struct batch *)job;

	b->next = b->owner->free;
	b->owner->free = b;
	b->owner->given--;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void wait_for_some(struct removals *r)
{
	struct pollfd ended = {.fd = worker_fd(r->worker), .events = POLLIN};

	poll(&ended, 1, -1);
	worker_reap(r->worker);
}

static bool begin_batch(struct removals *r, uint32_t layer, bool synced)
{
	if (!synced && r->given >= BATCHES_UNSYNCED)
		return false;
	while (!r->free)
		wait_for_some(r);
	r->filling = r->free;
	r->free = r->filling->next;
	r->filling->n = 0;
	r->filling->layer = layer;
	r->filling->records = 0;
	r->begun = now_ms();
	return true;
}

bool removals_add(struct removals *r, uint32_t layer, uint64_t ino, uint64_t records)
{
	struct batch *b;

	if (r->filling && r->filling->layer != layer)
		removals_push(r);
	if (!r->filling && !begin_batch(r, layer, records > 0))
		return false;
	b = r->filling;
	b->files[b->n++] = ino;
	if (records > 0) {
		b->records = records;
		r->written = records;
	}
	if (b->n == BATCH)
		removals_push(r);
	return true;
}

int removals_due(const struct removals *r)
{
	int64_t age;

	if (!r->filling)
		return -1;
	age = now_ms() - r->begun;
	return age < GATHERING ? (int)(GATHERING - age) : 0;
}

void removals_push(struct removals *r)
{
	struct batch *b = r->filling;

	if (!b)
		return;
	r->filling = NULL;
	r->given++;
	b->job = (struct job){.run = remove_files, .done = removed};
	worker_give(r->worker, &b->job);
}

bool removals_wait(struct removals *r)
{
	bool any;

	removals_push(r);
	any = r->given > 0;
	while (r->given > 0)
		wait_for_some(r);
	return any;
}

int removals_fd(const struct removals *r)
{
	return worker_fd(r->worker);
}

void removals_ready(struct removals *r)
{
	worker_reap(r->worker);
}
