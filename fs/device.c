/*
 * device: owns nothing; speaks the little of the FUSE protocol that a dead daemon's clients need to hear.
 * Invariant: only requests that no other descriptor has read are answered.
 * Called by serve and the unmounter.
 */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "cleanup.h"

/* The kernel hands out whole requests only, and none to a buffer that could not hold the largest write with what stands before it. */
enum { BUFFER = DEVICE_WRITE_MAX + (4 << 10) };

int device_clone(int fuse)
{
	cleanup_fd int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	uint32_t number = (uint32_t)fuse;

	if (fd < 0 || ioctl(fd, FUSE_DEV_IOC_CLONE, &number) < 0)
		return -errno;
	return take_fd(&fd);
}

static void refuse(int device, const struct fuse_in_header *request)
{
	struct fuse_out_header reply = {.len = sizeof(reply), .error = -ENOTCONN, .unique = request->unique};

	if (request->opcode == FUSE_FORGET || request->opcode == FUSE_BATCH_FORGET || request->opcode == FUSE_INTERRUPT)
		return;
	if (write(device, &reply, sizeof(reply)) < 0)
		return; /* its client was killed meanwhile */
}

/* Refuses what waits now. */
static int refuse_waiting(int device, void *buffer)
{
	for (;;) {
		ssize_t n = read(device, buffer, BUFFER);

		if (n >= (ssize_t)sizeof(struct fuse_in_header))
			refuse(device, buffer);
		else if (n >= 0)
			return -EPROTO;
		else if (errno == EAGAIN)
			return 0;
		else if (errno != EINTR && errno != ENOENT) /* ENOENT: interrupted before it was read */
			return -errno;
	}
}

int device_refuse(int device, int process)
{
	struct pollfd fds[] = {{.fd = process, .events = POLLIN}, {.fd = device, .events = POLLIN}};
	cleanup_free void *buffer = malloc(BUFFER);
	int r = buffer ? 0 : -ENOMEM;

	while (r == 0 && fds[0].revents == 0) {
		if (poll(fds, sizeof(fds) / sizeof(*fds), -1) < 0 && errno != EINTR)
			return -errno;
		r = refuse_waiting(device, buffer);
	}
	return r;
}
