/*
 * mconsole: the protocol of a UML kernel's management console: one datagram asks, one or more answer.
 * Invariant: a request is answered before the next is sent, or the connection is of no more use.
 * Called by guest.
 */
#include "mconsole.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"

enum { MAGIC = (int)0xcafebabe, VERSION = 2, DATA_MAX = 512, ANSWER_MS = 5000 };

/* The kernel's arch/um/drivers/mconsole.h has both; in the host's byte order. */
struct request {
	uint32_t magic, version, len;
	char data[DATA_MAX];
};

struct reply {
	uint32_t failed, more, len;
	char data[DATA_MAX];
};

/* The address of a socket whose path may be longer than an address: through a descriptor of its directory. */
static int set_address(const char *path, int dir, struct sockaddr_un *out)
{
	const char *name = strrchr(path, '/');
	int n = snprintf(out->sun_path, sizeof(out->sun_path), "/proc/self/fd/%d/%s", dir, name ? name + 1 : path);

	out->sun_family = AF_UNIX;
	return n < (int)sizeof(out->sun_path) ? 0 : -ENAMETOOLONG;
}

int mconsole_connect(const char *path, int *fd_out)
{
	const struct sockaddr_un unnamed = {.sun_family =
	                                            AF_UNIX}; /* unix(7): the kernel chooses a name to answer to */
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX] = ".";
	cleanup_fd int dir = -1, fd = -1;
	struct sockaddr_un address;
	int r;

	if (slash && snprintf(parent, sizeof(parent), "%.*s/", (int)(slash - path), path) >= PATH_MAX)
		return -ENAMETOOLONG;
	dir = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (dir < 0 || fd < 0)
		return -errno;
	r = set_address(path, dir, &address);
	if (r < 0)
		return r;
	if (bind(fd, (const struct sockaddr *)&unnamed, sizeof(unnamed.sun_family)) < 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*fd_out = take_fd(&fd);
	return 0;
}

/* One datagram of the answer: 1 when more follow. */
static int take_reply(int fd, FILE *text)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	struct reply reply;
	ssize_t n;

	if (poll(&poll_fd, 1, ANSWER_MS) <= 0)
		return -ETIMEDOUT;
	n = recv(fd, &reply, sizeof(reply), 0);
	if (n < 0)
		return -errno;
	if ((size_t)n < offsetof(struct reply, data) || reply.len > (size_t)n - offsetof(struct reply, data))
		return -EBADMSG;
	fwrite(reply.data, 1, strnlen(reply.data, reply.len), text);
	if (reply.more)
		return 1;
	return reply.failed ? -EPROTO : 0;
}

int mconsole_ask(int fd, const char *command, char **text_out)
{
	struct request request = {.magic = (uint32_t)MAGIC, .version = VERSION, .len = (uint32_t)strlen(command)};
	cleanup_free char *answer = NULL;
	size_t size;
	FILE *text;
	ssize_t sent;
	int r = 1;

	if (request.len >= sizeof(request.data))
		return -E2BIG;
	memcpy(request.data, command, request.len);
	text = open_memstream(&answer, &size);
	if (!text)
		return -ENOMEM;
	sent = send(fd, &request, sizeof(request), MSG_NOSIGNAL);
	if (sent != (ssize_t)sizeof(request))
		r = sent < 0 ? -errno : -EIO;
	while (r == 1)
		r = take_reply(fd, text);
	if (fclose(text) != 0)
		return -ENOMEM;
	if (r == 0 || r == -EPROTO)
		*text_out = take_ptr(&answer);
	return r;
}
