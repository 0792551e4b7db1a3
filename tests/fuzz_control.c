/*
 * fuzz_control: bytes as what many clients of the control socket do, against the daemon's own code for them.
 * Invariant: every client is answered or hung up on, in the end; the session is sound.
 * Called by a fuzzer or by its replay.
 *
 *     input: step ...
 *     step:  kind 1 byte | client 1 byte | what the kind wants
 */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control_socket.h"
#include "fuzz_kernel.h"
#include "fuzz_world.h"
#include "serve_control.h"
#include "unit.h"

enum { CLIENTS = 40, STEPS_MAX = 200, EVENTS = 16, PATIENCE = 20000 /* ms */ };
enum step { CONNECT, SEND, ASK, SHUT, READ, CLOSE, TURN, CHANGE, STEPS };

struct daemon {
	struct world *w;
	struct kernel kernel;
	struct serve_control *control;
	int epoll;
	struct {
		int fd; /* -1: none */
		bool shut, gone;
		char tail[16]; /* the last bytes of the answer */
		size_t n_bytes;
	} clients[CLIENTS];
};

static int relieve(void *arg, int64_t until)
{
	return 0;
}

static void print_status(void *arg, FILE *out)
{
	fputs("pid 1\n", out);
}

static void settle(void *arg)
{
}

static void start(struct daemon *d, struct world *w)
{
	const struct fuse_ops_options fuse = {.relieve = relieve};
	struct serve_control_options options = {
		.store = w->store, .tree = &w->tree, .status = print_status, .settle = settle, .device = -1};

	d->w = w;
	for (size_t i = 0; i < CLIENTS; i++)
		d->clients[i].fd = -1;
	kernel_start(&d->kernel, w, &fuse);
	kernel_init(&d->kernel);
	kernel_ask(&d->kernel, 1 /* LOOKUP */, 1, 0, "dir", 4);
	d->epoll = epoll_create1(EPOLL_CLOEXEC);
	options.fuse = d->kernel.fuse;
	options.epoll = d->epoll;
	assert_int_equal(serve_control_new(&options, &d->control), 0);
	assert_int_equal(serve_control_start(d->control), 0);
}

/* One turn of the daemon's loop: how many were ready. */
static int turn(struct daemon *d, int wait)
{
	struct epoll_event events[EVENTS];
	int n;

	do {
		n = epoll_wait(d->epoll, events, EVENTS, wait);
	} while (n < 0 && errno == EINTR); /* libFuzzer has a timer */
	for (int i = 0; i < n; i++)
		serve_control_ready(d->control, events[i].data.fd);
	return n;
}

/* Reads what is there; at the end what came is looked at. */
static void read_some(struct daemon *d, size_t nr)
{
	char bytes[512];
	ssize_t n;

	while ((n = recv(d->clients[nr].fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
		d->clients[nr].n_bytes += (size_t)n;
		for (ssize_t i = 0; i < n; i++) {
			memmove(d->clients[nr].tail, d->clients[nr].tail + 1, sizeof(d->clients[nr].tail) - 2);
			d->clients[nr].tail[sizeof(d->clients[nr].tail) - 2] = bytes[i];
		}
	}
	d->clients[nr].gone = n == 0 || (n < 0 && errno != EAGAIN);
}

static void hang_up(struct daemon *d, size_t nr)
{
	close(d->clients[nr].fd);
	memset(&d->clients[nr], 0, sizeof(d->clients[nr]));
	d->clients[nr].fd = -1;
}

/* The daemon goes on until the client has everything: its answer's last line is the status, or there is none. */
static void wait_for_end(struct daemon *d, size_t nr)
{
	const char *line;

	shutdown(d->clients[nr].fd, SHUT_WR);
	read_some(d, nr);
	while (!d->clients[nr].gone) {
		if (turn(d, PATIENCE) <= 0)
			fail_msg("client %zu waits for ever", nr);
		read_some(d, nr);
	}
	if (d->clients[nr].n_bytes == 0)
		return;
	line = memmem(d->clients[nr].tail, sizeof(d->clients[nr].tail) - 1, "R ", 2);
	if (!line || d->clients[nr].tail[sizeof(d->clients[nr].tail) - 2] != '\n')
		fail_msg("client %zu got no status", nr);
}

static void connect_one(struct daemon *d, size_t nr)
{
	int fd = openat(d->w->place.fd, "session", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* Room in the queue of those who want to connect, so that this does not wait. */
	turn(d, 0);
	d->clients[nr].fd = control_connect(fd);
	close(fd);
	assert_true(d->clients[nr].fd >= 0);
}

static void send_bytes(struct daemon *d, size_t nr, const void *bytes, size_t len)
{
	send(d->clients[nr].fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void ask(struct daemon *d, size_t nr, struct fuzz_input *in)
{
	static const char *const names[] = {"one", "two", "@base", "", NULL, "no", "\x01", "x y"};
	unsigned int kind = fuzz_byte(in);
	const struct request request = {
		.kind = kind % (REQUEST_SEAL + 1), .force = kind & 64, .name = names[fuzz_byte(in) % ARRAY_LEN(names)]};
	char bytes[CONTROL_REQUEST_MAX];

	send_bytes(d, nr, bytes, control_encode(&request, bytes));
	shutdown(d->clients[nr].fd, SHUT_WR);
}

static void send_raw(struct daemon *d, size_t nr, struct fuzz_input *in)
{
	size_t len = fuzz_byte(in);

	len = len < in->left ? len : in->left;
	send_bytes(d, nr, in->at, len);
	in->at += len;
	in->left -= len;
}

static void change_tree(struct daemon *d, struct fuzz_input *in)
{
	static const struct tree_new dir = {.mode = S_IFDIR | 0755};
	char name[2] = {(char)('a' + fuzz_byte(in) % 8)};
	struct inode made;

	if (tree_make(&d->w->tree, 1, name, &dir, &made) < 0)
		tree_rmdir(&d->w->tree, 1, name);
}

static void do_step(struct daemon *d, struct fuzz_input *in)
{
	enum step step = fuzz_byte(in) % STEPS;
	size_t nr = fuzz_byte(in) % CLIENTS;

	if (step == TURN)
		turn(d, 0);
	else if (step == CHANGE)
		change_tree(d, in);
	else if (d->clients[nr].fd < 0)
		connect_one(d, nr);
	else if (step == SEND)
		send_raw(d, nr, in);
	else if (step == ASK)
		ask(d, nr, in);
	else if (step == SHUT)
		shutdown(d->clients[nr].fd, SHUT_WR);
	else if (step == READ)
		read_some(d, nr);
	else if (step == CLOSE)
		hang_up(d, nr);
}

static void finish(struct daemon *d)
{
	for (size_t nr = 0; nr < CLIENTS; nr++) {
		if (d->clients[nr].fd < 0)
			continue;
		wait_for_end(d, nr);
		hang_up(d, nr);
	}
	while (serve_control_busy(d->control)) {
		if (turn(d, PATIENCE) <= 0)
			fail_msg("the daemon is busy for ever");
	}
	serve_control_free(d->control);
	assert_false(place_has(d->w->place.fd, "session/control"));
	close(d->epoll);
	kernel_stop(&d->kernel);
}

size_t fuzz_mend(unsigned char *bytes, size_t len)
{
	return len;
}

size_t fuzz_seed(unsigned int nr, unsigned char bytes[FUZZ_INPUT_MAX])
{
	static const unsigned char seeds[][40] = {
		{CONNECT, 0, ASK, 0, 4, 0, TURN, 0, READ, 0},
		{CHANGE, 0, 1, CONNECT, 0, ASK, 0, 0, 0, TURN, 0, CHANGE, 0, 2, CONNECT, 1, ASK, 1, 65, 0, TURN, 0},
		{CONNECT, 0, CONNECT, 1, ASK, 0, 0, 0, ASK,  1, 0,     1,
	         TURN,    0, CONNECT, 2, ASK, 2, 2, 0, TURN, 0, CLOSE, 0},
		{CONNECT, 3, SEND, 3, 4, 'l', 'i', 's', 't', TURN, 0, SEND, 3, 4, 0, '0', 0, 0, SHUT, 3, TURN, 0},
		{CONNECT, 3, SEND, 3, 5,   'r', 'e', 's', 'e', 't', SEND, 3,
	         9,       0, '1',  0, '@', 'b', 'a', 's', 'e', 0,   SHUT, 3},
		{CHANGE, 0, 1, CONNECT, 0, ASK, 0, 5, 0, TURN, 0, CHANGE, 0, 2, CONNECT, 1, ASK, 1, 5, 0, TURN, 0},
		{CHANGE, 0, 3, CONNECT, 0, ASK, 0, 1, 2, CONNECT, 1, ASK, 1, 1, 2, CONNECT, 2, ASK, 2, 3, 0, TURN, 0},
	};

	if (nr >= ARRAY_LEN(seeds))
		return 0;
	memcpy(bytes, seeds[nr], sizeof(seeds[nr]));
	return sizeof(seeds[nr]);
}

void fuzz_one(const unsigned char *bytes, size_t len)
{
	static struct daemon d;
	struct fuzz_input in = {bytes, len};
	struct world *w = fuzz_begin();

	world_open(w);
	start(&d, w);
	for (unsigned int i = 0; i < STEPS_MAX && in.left > 0; i++)
		do_step(&d, &in);
	finish(&d);
	fuzz_expect_sound(w, false);
	fuzz_end(w);
}
