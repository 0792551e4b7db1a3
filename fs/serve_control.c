/*
 * serve_control: owns the control socket, its clients, and the three threads that work for them.
 * Invariant: one request is carried out at a time; a reset is answered when the kernel has forgotten the old state; clients
 * that say nothing, or too much, cost a bounded number of descriptors and no time.
 * Called by serve's loop.
 */
#include "serve_control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "cleanup.h"
#include "control_socket.h"
#include "notify.h"
#include "request.h"
#include "worker.h"

enum {
	CLIENTS_MAX = 32,
	ACCEPT_AT_ONCE = 16, /* before the loop looks at anything else */
};

struct client {
	struct client *next; /* the one that came before */
	struct control_client *socket;
	struct request request;                                 /* borrows from socket */
	enum { CLIENT_ASKS, CLIENT_WAITS, CLIENT_READS } state; /* while it waits, it is not in the epoll */
};

struct serve_control {
	struct serve_control_options o;
	int listen_fd;
	struct client *clients;
	unsigned int n_clients;
	struct worker *notifier, *evictor, *reaper;
	bool busy;            /* a reset is being told to the kernel, and nobody else is listened to */
	unsigned int telling; /* jobs that talk to the kernel, which may ask back before it answers */
};

/* A change of layers from the moment when it is committed to the moment when nothing of it is left to do. */
struct follow_up {
	struct job job;
	struct serve_control *control;
	struct client *client;
	struct notify *notify;
	struct snapshot_change change;
	bool forced; /* somebody may be in what is gone */
};

static int set_events(struct serve_control *c, int op, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	return epoll_ctl(c->o.epoll, op, fd, &event) < 0 ? -errno : 0;
}

static void give_to_reaper(struct serve_control *c, struct follow_up *after);

/* A new session's first manifest is on disk soon. */
static int sync_manifest(struct serve_control *c)
{
	struct session *s = &c->o.store->session;
	struct follow_up *after;

	if (!commit_pending(&s->commit))
		return 0;
	after = calloc(1, sizeof(*after));
	if (!after)
		return -ENOMEM;
	after->control = c;
	after->change.nr = commit_made(&s->commit);
	after->change.top = s->manifest.top;
	give_to_reaper(c, after);
	return 0;
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
	r = c->listen_fd < 0 ? c->listen_fd : set_events(c, EPOLL_CTL_ADD, c->listen_fd, EPOLLIN);
	if (r < 0) {
		serve_control_free(c);
		return r;
	}
	*out = c;
	return 0;
}

int serve_control_start(struct serve_control *c)
{
	int r = worker_new_apart(c->o.device, c->o.fuse_fd, &c->notifier);

	if (r == 0)
		r = worker_new_apart(c->o.device, c->o.fuse_fd, &c->evictor);
	if (r == 0)
		r = worker_new(&c->reaper);
	if (r == 0)
		r = set_events(c, EPOLL_CTL_ADD, worker_fd(c->notifier), EPOLLIN);
	if (r == 0)
		r = set_events(c, EPOLL_CTL_ADD, worker_fd(c->evictor), EPOLLIN);
	if (r == 0)
		r = set_events(c, EPOLL_CTL_ADD, worker_fd(c->reaper), EPOLLIN);
	return r < 0 ? r : sync_manifest(c);
}

static void drop_client(struct serve_control *c, struct client *client)
{
	struct client **slot = &c->clients;

	while (*slot != client)
		slot = &(*slot)->next;
	*slot = client->next;
	c->n_clients--;
	control_client_free(client->socket);
	free(client);
}

void serve_control_stop(struct serve_control *c)
{
	if (!c)
		return;
	worker_free(c->notifier); /* its last job gives the evictor one more, and that one the reaper */
	c->notifier = NULL;
	worker_free(c->evictor);
	c->evictor = NULL;
}

void serve_control_free(struct serve_control *c)
{
	if (!c)
		return;
	serve_control_stop(c);
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

	/* A change that the disk does not take waits for the next one, or for the end: nothing is deleted before. */
	snapshot_clean_up(&after->control->o.store->session, &after->change);
}

static void cleaned_up(struct job *job)
{
	free(job);
}

static void give_to_reaper(struct serve_control *c, struct follow_up *after)
{
	after->job = (struct job){.run = clean_up, .done = cleaned_up};
	worker_give(c->reaper, &after->job);
}

static void evict(struct job *job)
{
	struct follow_up *after = (struct follow_up *)job;

	if (!after->forced)
		notify_evict(after->notify, false, after->control->o.fuse);
}

static void evicted(struct job *job)
{
	struct follow_up *after = (struct follow_up *)job;

	notify_free(after->notify);
	after->control->telling--;
	give_to_reaper(after->control, after);
}

static void tell_kernel(struct job *job)
{
	struct follow_up *after = (struct follow_up *)job;

	notify_expire(after->notify, after->control->o.fuse);
	if (after->forced)
		notify_evict(after->notify, true, after->control->o.fuse);
}

static void run_waiting(struct serve_control *c);

static void kernel_told(struct job *job)
{
	struct follow_up *after = (struct follow_up *)job;
	struct serve_control *c = after->control;

	c->busy = false;
	answer(c, after->client, 0);
	after->job = (struct job){.run = evict, .done = evicted};
	worker_give(c->evictor, &after->job);
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
	int r;

	if (request_ends_state(&client->request))
		c->o.settle(c->o.arg);
	r = out ? request_run(c->o.store, &client->request, &log, out, &change) : -ENOMEM;
	if (out && client->request.kind == REQUEST_STATUS)
		c->o.status(c->o.arg, out);
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

/* Reads what is there of a request, and carries it out when that is all. False when more must come. */
static bool receive(struct serve_control *c, struct client *client)
{
	int r = control_receive(client->socket, &client->request);

	if (r == 0)
		return false;
	if (r < 0) {
		drop_client(c, client);
		return true;
	}
	client->state = CLIENT_WAITS;
	set_events(c, EPOLL_CTL_DEL, control_client_fd(client->socket), 0);
	if (!c->busy)
		carry_out(c, client);
	return true;
}

/* The client that has been idle for longest goes, unless its request has come meanwhile. False when none is idle. */
static bool make_room(struct serve_control *c)
{
	struct client *oldest = NULL;

	for (struct client *client = c->clients; client; client = client->next) {
		if (client->state != CLIENT_WAITS)
			oldest = client;
	}
	if (!oldest)
		return false;
	if (oldest->state == CLIENT_READS || !receive(c, oldest))
		drop_client(c, oldest);
	return true;
}

static void add_client(struct serve_control *c, struct control_client *socket)
{
	struct client *client = calloc(1, sizeof(*client));

	if (!client || set_events(c, EPOLL_CTL_ADD, control_client_fd(socket), EPOLLIN) < 0) {
		free(client);
		control_client_free(socket);
		return;
	}
	client->socket = socket;
	client->next = c->clients;
	c->clients = client;
	c->n_clients++;
}

static void take_in(struct serve_control *c, struct control_client *socket)
{
	while (c->n_clients >= CLIENTS_MAX && make_room(c))
		continue;
	if (c->n_clients >= CLIENTS_MAX)
		control_client_free(socket); /* all of them wait for an answer */
	else
		add_client(c, socket);
}

/* accept(2) wants a descriptor before it looks: without this, somebody would make room for nobody. */
static bool is_wanted(int listen_fd)
{
	struct pollfd listener = {.fd = listen_fd, .events = POLLIN};

	return poll(&listener, 1, 0) > 0;
}

static void accept_clients(struct serve_control *c)
{
	for (int i = 0; i < ACCEPT_AT_ONCE && is_wanted(c->listen_fd); i++) {
		struct control_client *socket;
		int r = control_accept(c->listen_fd, &socket);

		if (r == -EMFILE || r == -ENFILE)
			make_room(c);
		else if (r == 0)
			take_in(c, socket);
	}
}

static void client_ready(struct serve_control *c, struct client *client)
{
	if (client->state == CLIENT_ASKS)
		receive(c, client);
	else if (control_send(client->socket) != 0)
		drop_client(c, client);
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
	else if (fd == worker_fd(c->evictor))
		worker_reap(c->evictor);
	else if (fd == worker_fd(c->reaper))
		worker_reap(c->reaper);
	else if (client)
		client_ready(c, client);
}
