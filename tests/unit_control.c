/*
 * unit_control: whom the control socket hears, answers and hangs up on when more come than it has room for.
 * Invariant: the daemon gets to what is ready in the order that a test wants: it is told of it here, not by its loop.
 * Called by meson test, linked with --wrap=accept4 and --wrap=fdopen.
 */
#include <fcntl.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control_socket.h"
#include "fuzz_kernel.h"
#include "serve_control.h"
#include "umlfs/control.h"
#include "unit.h"

enum { CLIENTS_MAX = 32 /* as serve_control has them */, EVENTS = 64, PATIENCE = 20000 /* ms */, LONG = 4 << 20 };

/* What a descriptor of the daemon is. */
enum kind { LISTENER = 1, CLIENT = 2, WORKER = 4 };

struct daemon {
	struct world *w;
	struct kernel kernel;
	struct serve_control *control;
	int epoll;
	size_t status_bytes; /* of the answer to STATUS */
	unsigned int n_statuses;
};

/* Of descriptors, as RLIMIT_NOFILE is, for accept(2) alone: the kernel looks at it before it looks for a client. */
static int limit = INT_MAX;

int __real_accept4(int fd, struct sockaddr *from, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *from, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *from, socklen_t *len, int flags)
{
	int next = dup(fd);

	assert_true(next >= 0);
	close(next);
	if (next < limit)
		return __real_accept4(fd, from, len, flags);
	errno = EMFILE;
	return -1;
}

static bool no_memory; /* for fdopen(3) */

FILE *__real_fdopen(int fd, const char *mode);
FILE *__wrap_fdopen(int fd, const char *mode);
FILE *__wrap_fdopen(int fd, const char *mode)
{
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	if (!no_memory)
		return __real_fdopen(fd, mode);
	errno = ENOMEM;
	return NULL;
}

static int relieve(void *arg, int64_t until)
{
	return 0;
}

static void print_status(void *arg, FILE *out)
{
	struct daemon *d = arg;

	d->n_statuses++;
	for (size_t i = 0; i < d->status_bytes; i++)
		fputc('x', out);
	fputc('\n', out);
}

static void settle(void *arg)
{
}

static int setup(void **state)
{
	const struct fuse_ops_options fuse = {.relieve = relieve};
	struct daemon *d = calloc(1, sizeof(*d));
	struct serve_control_options options = {.status = print_status, .settle = settle, .arg = d, .device = -1};

	assert_non_null(d);
	d->w = world_new(NULL);
	kernel_start(&d->kernel, d->w, &fuse);
	kernel_init(&d->kernel);
	d->epoll = epoll_create1(EPOLL_CLOEXEC);
	options.store = d->w->store;
	options.tree = &d->w->tree;
	options.fuse = d->kernel.fuse;
	options.epoll = d->epoll;
	assert_int_equal(serve_control_new(&options, &d->control), 0);
	assert_int_equal(serve_control_start(d->control), 0);
	*state = d;
	return 0;
}

static int teardown(void **state)
{
	struct daemon *d = *state;
	void *w = d->w;

	serve_control_free(d->control);
	close(d->epoll);
	kernel_stop(&d->kernel);
	free(d);
	return world_teardown(&w);
}

static enum kind kind_of(int fd)
{
	int listens = 0;
	socklen_t len = sizeof(listens);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0)
		return WORKER;
	return listens ? LISTENER : CLIENT;
}

/* Tells the daemon once of what is ready of these kinds: of how many. */
static int tell(struct daemon *d, unsigned int kinds, int wait)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(d->epoll, events, EVENTS, wait);
	int told = 0;

	assert_true(n >= 0);
	for (int i = 0; i < n; i++) {
		if (!(kind_of(events[i].data.fd) & kinds))
			continue;
		serve_control_ready(d->control, events[i].data.fd);
		told++;
	}
	return told;
}

/* One that connects and is accepted, if there is room. */
static int come(struct daemon *d)
{
	int session = openat(d->w->place.fd, "session", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = control_connect(session);

	close(session);
	assert_true(fd >= 0);
	assert_int_equal(tell(d, LISTENER, PATIENCE), 1);
	return fd;
}

static void ask(int fd, enum request_kind kind)
{
	const struct request request = {.kind = kind, .name = kind == REQUEST_RESET ? SNAPSHOT_BASE : NULL};
	char bytes[CONTROL_REQUEST_MAX];
	size_t len = control_encode(&request, bytes);

	assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
}

/* A reset is being told to the kernel for as long as nobody tells the daemon that this is done. */
static int come_and_reset(struct daemon *d)
{
	int fd = come(d);

	ask(fd, REQUEST_RESET);
	assert_int_equal(tell(d, CLIENT, PATIENCE), 1);
	assert_true(serve_control_busy(d->control));
	return fd;
}

static void go_on(struct daemon *d)
{
	while (serve_control_busy(d->control))
		assert_true(tell(d, WORKER, PATIENCE) > 0);
}

/* True when the daemon has closed its end; in *tail_out the last bytes of what it sent, "" when there were none. */
static bool has_ended(int fd, char tail_out[8])
{
	static char bytes[1 << 16];
	ssize_t n;

	tail_out[0] = '\0';
	while ((n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
		size_t len = n < 7 ? (size_t)n : 7;

		memcpy(tail_out, bytes + n - len, len);
		tail_out[len] = '\0';
	}
	return n == 0 || errno != EAGAIN;
}

static bool is_answered(int fd)
{
	char tail[8];

	return has_ended(fd, tail) && strlen(tail) >= 4 && strcmp(tail + strlen(tail) - 4, "R 0\n") == 0;
}

static bool is_hung_up_on(int fd)
{
	char tail[8];

	return has_ended(fd, tail) && tail[0] == '\0';
}

static bool waits(int fd)
{
	char tail[8];

	return !has_ended(fd, tail) && tail[0] == '\0';
}

static void come_silently(struct daemon *d, int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fds[i] = come(d);
}

static void go(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

static void those_who_wait_for_an_answer_stay_and_one_more_is_hung_up_on(void **state)
{
	struct daemon *d = *state;
	int fds[CLIENTS_MAX], late;

	fds[0] = come_and_reset(d);
	for (size_t i = 1; i < CLIENTS_MAX; i++) {
		fds[i] = come(d);
		ask(fds[i], REQUEST_STATUS);
		assert_int_equal(tell(d, CLIENT, PATIENCE), 1);
	}
	late = come(d);
	assert_true(is_hung_up_on(late));
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		assert_true(waits(fds[i]));
	assert_int_equal(d->n_statuses, 0);
	go_on(d);
	assert_int_equal(d->n_statuses, CLIENTS_MAX - 1);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		assert_true(is_answered(fds[i]));
	close(late);
	go(fds, CLIENTS_MAX);
}

static void who_has_been_silent_for_longest_goes_first(void **state)
{
	struct daemon *d = *state;
	int fds[CLIENTS_MAX + 2];

	come_silently(d, fds, ARRAY_LEN(fds));
	assert_true(is_hung_up_on(fds[0]));
	assert_true(is_hung_up_on(fds[1]));
	for (size_t i = 2; i < ARRAY_LEN(fds); i++)
		assert_true(waits(fds[i]));
	ask(fds[CLIENTS_MAX + 1], REQUEST_STATUS);
	assert_int_equal(tell(d, CLIENT, PATIENCE), 1);
	assert_true(is_answered(fds[CLIENTS_MAX + 1]));
	go(fds, ARRAY_LEN(fds));
}

static void a_request_that_has_come_is_answered_before_anybody_makes_room(void **state)
{
	struct daemon *d = *state;
	int fds[CLIENTS_MAX], late;

	come_silently(d, fds, CLIENTS_MAX);
	ask(fds[0], REQUEST_STATUS); /* and nobody has told the daemon */
	late = come(d);
	assert_true(is_answered(fds[0]));
	assert_true(waits(fds[1]));
	ask(late, REQUEST_STATUS);
	assert_int_equal(tell(d, CLIENT, PATIENCE), 1);
	assert_true(is_answered(late));
	close(late);
	go(fds, CLIENTS_MAX);
}

static void a_request_that_has_come_during_a_reset_waits_and_another_one_makes_room(void **state)
{
	struct daemon *d = *state;
	int fds[CLIENTS_MAX], late;

	fds[0] = come_and_reset(d);
	come_silently(d, fds + 1, CLIENTS_MAX - 1);
	ask(fds[1], REQUEST_STATUS);
	late = come(d);
	assert_true(waits(late));
	assert_true(waits(fds[1]));
	assert_true(is_hung_up_on(fds[2]));
	assert_true(waits(fds[3]));
	go_on(d);
	assert_true(is_answered(fds[0]));
	assert_true(is_answered(fds[1]));
	close(late);
	go(fds, CLIENTS_MAX);
}

static void who_does_not_read_its_answer_makes_room(void **state)
{
	struct daemon *d = *state;
	int fds[CLIENTS_MAX], late;
	char tail[8];

	d->status_bytes = LONG;
	fds[0] = come(d);
	ask(fds[0], REQUEST_STATUS);
	assert_int_equal(tell(d, CLIENT, PATIENCE), 1);
	come_silently(d, fds + 1, CLIENTS_MAX - 1);
	late = come(d);
	assert_true(waits(fds[1]));
	assert_true(waits(late));
	assert_true(has_ended(fds[0], tail));
	assert_string_equal(tail, "xxxxxxx");
	close(late);
	go(fds, CLIENTS_MAX);
}

static void without_descriptors_somebody_makes_room(void **state)
{
	struct daemon *d = *state;
	int fds[2], session, late;

	come_silently(d, fds, 2);
	session = openat(d->w->place.fd, "session", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	late = control_connect(session);
	close(session);
	limit = session; /* the lowest that is free */
	tell(d, LISTENER, 0);
	limit = INT_MAX;
	assert_true(is_hung_up_on(fds[0]));
	assert_true(waits(fds[1]));
	ask(late, REQUEST_STATUS);
	assert_int_equal(tell(d, CLIENT, PATIENCE), 1);
	assert_true(is_answered(late));
	close(late);
	go(fds, 2);
}

/* The lowest number that is free; as many are open below it as there ever were. */
static int next_descriptor(void)
{
	int next = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(next);
	return next;
}

static void an_answer_that_cannot_be_read_is_told_and_leaves_no_descriptor(void **state)
{
	const struct request request = {.kind = REQUEST_LIST};
	struct daemon *d = *state;
	struct place *place = &d->w->place;
	int next = next_descriptor();
	char *text;

	no_memory = true;
	expect_status(control_request(d->w->session, &request, &place->log, &text), -ENOMEM, "list");
	no_memory = false;
	assert_int_equal(next_descriptor(), next);
	assert_string_equal(place->lines, "the daemon's answer cannot be read: Cannot allocate memory\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(those_who_wait_for_an_answer_stay_and_one_more_is_hung_up_on),
		TEST(who_has_been_silent_for_longest_goes_first),
		TEST(a_request_that_has_come_is_answered_before_anybody_makes_room),
		TEST(a_request_that_has_come_during_a_reset_waits_and_another_one_makes_room),
		TEST(who_does_not_read_its_answer_makes_room),
		TEST(without_descriptors_somebody_makes_room),
		TEST(an_answer_that_cannot_be_read_is_told_and_leaves_no_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
