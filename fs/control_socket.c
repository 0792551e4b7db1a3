/*
 * control_socket: owns the socket's clients.
 * Invariant: only the daemon's user and root are heard; a client costs a bounded amount of memory until its
 * request is whole.
 * Called by serve_control; control uses it to connect.
 */
#include "control_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "cleanup.h"

enum { BACKLOG = 16 };

static const char *const verbs[] = {
	[REQUEST_SNAPSHOT] = "snapshot", [REQUEST_RESET] = "reset",   [REQUEST_DELETE] = "delete",
	[REQUEST_LIST] = "list",         [REQUEST_STATUS] = "status", [REQUEST_SEAL] = "seal",
};

struct control_client {
	int fd;
	char in[CONTROL_REQUEST_MAX];
	size_t in_len;
	FILE *answer;
	char *out;
	size_t out_len, out_sent;
};

/* A path by way of the directory's descriptor, because a socket address holds only 107 bytes. */
static void address(int dirfd, struct sockaddr_un *out)
{
	*out = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(out->sun_path, sizeof(out->sun_path), "/proc/self/fd/%d/control", dirfd);
}

int control_listen(int dirfd)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;
	mode_t mask;
	int r;

	if (fd < 0)
		return -errno;
	address(dirfd, &addr);
	mask = umask(0177);
	r = bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	umask(mask);
	if (r == 0 && listen(fd, BACKLOG) < 0)
		r = -errno;
	return r < 0 ? r : take_fd(&fd);
}

int control_connect(int dirfd)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;

	if (fd < 0)
		return -errno;
	address(dirfd, &addr);
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0)
		return take_fd(&fd);
	return errno == ENOENT || errno == ECONNREFUSED ? -ENOTCONN : -errno;
}

int control_accept(int listen_fd, struct control_client **out)
{
	cleanup_fd int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct control_client *c;
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (fd < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || (peer.uid != geteuid() && peer.uid != 0))
		return -EACCES;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->answer = open_memstream(&c->out, &c->out_len);
	if (!c->answer) {
		free(c);
		return -ENOMEM;
	}
	c->fd = take_fd(&fd);
	*out = c;
	return 0;
}

int control_client_fd(const struct control_client *c)
{
	return c->fd;
}

size_t control_encode(const struct request *request, char bytes[CONTROL_REQUEST_MAX])
{
	const char *name = request->name ? request->name : "";
	int len = snprintf(bytes, CONTROL_REQUEST_MAX, "%s%c%d%c%s", verbs[request->kind], 0, request->force, 0, name);

	return (size_t)(len < CONTROL_REQUEST_MAX ? len : CONTROL_REQUEST_MAX - 1) + 1;
}

/* Three strings, each with its NUL. */
static int decode(char *in, size_t len, struct request *out)
{
	char *force = memchr(in, '\0', len);
	char *name = force ? memchr(force + 1, '\0', len - (size_t)(force + 1 - in)) : NULL;
	char *end = name ? memchr(name + 1, '\0', len - (size_t)(name + 1 - in)) : NULL;

	if (!end || end != in + len - 1)
		return -EPROTO;
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(in, verbs[i]) != 0)
			continue;
		*out = (struct request){.kind = (enum request_kind)i, .force = strcmp(force + 1, "1") == 0};
		out->name = name[1] ? name + 1 : NULL;
		return 1;
	}
	return -EPROTO;
}

int control_receive(struct control_client *c, struct request *out)
{
	while (c->in_len < sizeof(c->in)) {
		ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, 0);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (n == 0)
			return decode(c->in, c->in_len, out);
		c->in_len += (size_t)n;
	}
	return -EMSGSIZE;
}

void control_data(struct control_client *c, const char *text)
{
	while (*text) {
		int len = (int)strcspn(text, "\n");

		fprintf(c->answer, "D %.*s\n", len, text);
		text += len + (text[len] == '\n');
	}
}

static void write_line(void *arg, enum log_level level, const char *line)
{
	static const char letters[] = {[LOG_LEVEL_ERROR] = 'E', [LOG_LEVEL_WARNING] = 'W', [LOG_LEVEL_NOTE] = 'N'};
	struct control_client *c = arg;

	fprintf(c->answer, "%c %s\n", letters[level], line);
}

struct log control_log(struct control_client *c)
{
	return (struct log){.write = write_line, .arg = c};
}

int control_finish(struct control_client *c, int status)
{
	fprintf(c->answer, "R %d\n", status);
	return fflush(c->answer) == 0 ? 0 : -ENOMEM;
}

int control_send(struct control_client *c)
{
	while (c->out_sent < c->out_len) {
		ssize_t n = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		c->out_sent += (size_t)n;
	}
	return 1;
}

void control_client_free(struct control_client *c)
{
	if (!c)
		return;
	fclose(c->answer);
	free(c->out);
	close_fd(c->fd);
	free(c);
}
