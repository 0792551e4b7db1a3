/*
 * serve_control: owns the control socket, its clients, and the two threads that work for them.
 * Invariant: one request is carried out at a time; a reset is answered when the kernel has forgotten the old state.
 * Called by serve's loop.
 */
#include "serve_control.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "cleanup.h"
#include "control_socket.h"
#include "notify.h"
#include "request.h"
#include "worker.h"

struct client {
	struct client *next;
	struct control_client *socket;
	struct request request;                                 /* borrows from socket */
	enum { CLIENT_ASKS, CLIENT_WAITS, CLIENT_READS } state; /* while it waits, it is not in the epoll */
};

struct serve_control {
	struct serve_control_options o;
	int listen_fd;
	struct client *clients;
	struct worker *notifier, *reaper;
	bool busy;            /* a reset is being told to the kernel, and nobody else is listened to */
	unsigned int telling; /* jobs that talk to the kernel, which may ask back before it answers */
	atomic_uint syncs;    /* how many were given to the reaper */
};

/* A change of layers from the moment when it is committed to the moment when nothing of it is left to do. */
struct follow_up {
	struct job job;
	struct serve_control *control;
	struct client *client;
	struct notify *notify;
	struct snapshot_change change;
	int dirfd, layersfd;
	unsigned int sync; /* a snapshot's number among them: it shall survive a power cut, soon; 0: none */
	bool forced;       /* somebody may be in what is gone */
};

static int set_events(struct serve_control *c, int op, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	return epoll_ctl(c->o.epoll, op, fd, &event) < 0 ? -errno : 0;
}

int serve_control_new(const struct serve_control_options *options, struct serve_control **out)
{
	struct serve_control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->o = *options;
	unlinkat(c->o.store->session.dirfd, "control", 0); /* a dead daemon's: the lock is ours */
	c->listen_fd = control_listen(c->o.store->session.dirfd);
	r = c->listen_fd < 0 ? c->listen_fd : worker_new(&c->notifier);
	if (r == 0)
		r = worker_new(&c->reaper);
	if (r == 0)
		r = set_events(c, EPOLL_CTL_ADD, c->listen_fd, EPOLLIN);
	if (r == 0)
		r = set_events(c, EPOLL_CTL_ADD, worker_fd(c->notifier), EPOLLIN);
	if (r == 0)
		r = set_events(c, EPOLL_CTL_ADD, worker_fd(c->reaper), EPOLLIN);
	if (r < 0) {
		serve_control_free(c);
		return r;
	}
	*out = c;
	return 0;
}

static void drop_client(struct serve_control *c, struct client *client)
{
	struct client **slot = &c->clients;

	while (*slot != client)
		slot = &(*slot)->next;
	*slot = client->next;
	control_client_free(client->socket);
	free(client);
}

void serve_control_free(struct serve_control *c)
{
	if (!c)
		return;
	worker_free(c->notifier); /* its last job may give the reaper one more */
	c->notifier = NULL;
	worker_free(c->reaper);
	while (c->clients)
		drop_client(c, c->clients);
	if (c->listen_fd >= 0)
		unlinkat(c->o.store->session.dirfd, "control", 0);
	close_fd(c->listen_fd);
	free(c);
}

/* Sends the answer, now or when the client reads. */
static void answer(struct serve_control *c, struct client *client, int status)
{
	int fd = control_client_fd(client->socket);

	client->state = CLIENT_READS;
	if (control_finish(client->socket, status) < 0 || control_send(client->socket) != 0 ||
	    set_events(c, EPOLL_CTL_ADD, fd, EPOLLOUT) < 0)
		drop_client(c, client);
}

static void clean_up(struct job *job)
{
	struct follow_up *after = (struct follow_up *)job;

	if (after->notify)
		notify_evict(after->notify, after->control->o.fuse);
	snapshot_clean_up(after->layersfd, &after->change);
	/* The last one that waits does for all before it: a burst of snapshots is no row of syncs. */
	if (after->sync && after->sync == atomic_load(&after->control->syncs))
		syncfs(after->dirfd);
}

static void cleaned_up(struct job *job)
{
	struct follow_up *after = (struct follow_up *)job;

	notify_free(after->notify);
	after->control->telling--;
	free(after);
}

static void give_to_reaper(struct serve_control *c, struct follow_up *after)
{
	after->job = (struct job){.run = clean_up, .done = cleaned_up};
	c->telling++;
	worker_give(c->reaper, &after->job);
}

static void tell_kernel(struct job *job)
{
	struct follow_up *after = (struct follow_up *)job;

	notify_expire(after->notify, after->control->o.fuse);
	if (after->forced)
		notify_evict(after->notify, after->control->o.fuse);
}

static void run_waiting(struct serve_control *c);

static void kernel_told(struct job *job)
{
	struct follow_up *after = (struct follow_up *)job;
	struct serve_control *c = after->control;

	c->busy = false;
	c->telling--;
	answer(c, after->client, 0);
	give_to_reaper(c, after);
	run_waiting(c);
}

/* What a change of layers leaves to be done, away from the loop. */
static int begin_follow_up(struct serve_control *c, struct client *client, struct snapshot_change *change)
{
	struct follow_up *after = calloc(1, sizeof(*after));
	int r;

	if (!after)
		return -ENOMEM;
	after->control = c;
	after->client = client;
	after->change = *change;
	after->dirfd = c->o.store->session.dirfd;
	after->layersfd = c->o.store->session.layersfd;
	if (client->request.kind == REQUEST_SNAPSHOT)
		after->sync = atomic_fetch_add(&c->syncs, 1) + 1;
	after->forced = client->request.force;
	*change = (struct snapshot_change){0};
	if (client->request.kind != REQUEST_RESET) {
		give_to_reaper(c, after);
		return 0;
	}
	r = notify_collect(c->o.tree, &after->change, &after->notify);
	if (r < 0) {
		give_to_reaper(c, after);
		return r;
	}
	after->job = (struct job){.run = tell_kernel, .done = kernel_told};
	c->busy = true;
	c->telling++;
	worker_give(c->notifier, &after->job);
	return 0;
}

static void carry_out(struct serve_control *c, struct client *client)
{
	struct log log = control_log(client->socket);
	struct snapshot_change change = {0};
	cleanup_free char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int r = out ? request_run(c->o.store, &client->request, &log, out, &change) : -ENOMEM;

	if (out && client->request.kind == REQUEST_STATUS)
		c->o.status(c->o.status_arg, out);
	if (out && fclose(out) == 0 && r == 0)
		control_data(client->socket, text);
	if (r == 0 && client->request.kind != REQUEST_LIST && client->request.kind != REQUEST_STATUS)
		r = begin_follow_up(c, client, &change);
	if (!c->busy)
		answer(c, client, r);
}

static void run_waiting(struct serve_control *c)
{
	struct client *client = c->clients;

	while (client && !c->busy) {
		struct client *next = client->next;

		if (client->state == CLIENT_WAITS)
			carry_out(c, client);
		client = next;
	}
}

static void accept_clients(struct serve_control *c)
{
	struct control_client *socket;
	struct client *client;
	int r;

	while ((r = control_accept(c->listen_fd, &socket)) != -EAGAIN) {
		if (r == -EACCES)
			continue;
		if (r < 0)
			return;
		client = calloc(1, sizeof(*client));
		if (!client || set_events(c, EPOLL_CTL_ADD, control_client_fd(socket), EPOLLIN) < 0) {
			free(client);
			control_client_free(socket);
			continue;
		}
		client->socket = socket;
		client->next = c->clients;
		c->clients = client;
	}
}

static void client_ready(struct serve_control *c, struct client *client)
{
	int r;

	if (client->state == CLIENT_READS) {
		if (control_send(client->socket) != 0)
			drop_client(c, client);
		return;
	}
	r = control_receive(client->socket, &client->request);
	if (r == 0)
		return;
	if (r < 0) {
		drop_client(c, client);
		return;
	}
	client->state = CLIENT_WAITS;
	set_events(c, EPOLL_CTL_DEL, control_client_fd(client->socket), 0);
	if (!c->busy)
		carry_out(c, client);
}

bool serve_control_busy(const struct serve_control *c)
{
	return c->telling > 0;
}

static struct client *find_client(const struct serve_control *c, int fd)
{
	struct client *client = c->clients;

	while (client && control_client_fd(client->socket) != fd)
		client = client->next;
	return client;
}

void serve_control_ready(struct serve_control *c, int fd)
{
	struct client *client = find_client(c, fd);

	if (fd == c->listen_fd)
		accept_clients(c);
	else if (fd == worker_fd(c->notifier))
		worker_reap(c->notifier);
	else if (fd == worker_fd(c->reaper))
		worker_reap(c->reaper);
	else if (client)
		client_ready(c, client);
}
