/*
 * run_input: brings standard input to a command that has no terminal.
 *
 * A console of UML knows no end of input and takes it byte by byte; so parts of it are files in a directory that the
 * guest has mounted, and lines on the console say which are there.
 * Invariant: at most PARTS_MAX files are there; each is removed when the guest has read it.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

enum { PARTS_MAX = 2 };

int run_input_begin(struct run_input *input, const char *dir)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/roots/input", dir);
	input->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (input->dir < 0)
		return log_errno(&cmd_log, -errno, "%s", path);
	input->from = STDIN_FILENO;
	return 0;
}

bool run_input_wants(const struct run_input *input)
{
	return input->from >= 0 && input->sent - input->taken < PARTS_MAX;
}

void run_input_end(struct run_input *input)
{
	if (input->from < 0)
		return;
	input->from = -1;
	close(STDIN_FILENO); /* whoever writes to it shall know */
	open("/dev/null", O_RDONLY);
}

static int write_part(const struct run_input *input, const char *bytes, size_t len)
{
	char name[16];
	int fd, r = 0;

	snprintf(name, sizeof(name), "%u", input->sent);
	fd = openat(input->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	while (r == 0 && len > 0) {
		ssize_t n = write(fd, bytes, len);

		r = n < 0 ? -errno : 0;
		bytes += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	close(fd);
	return r;
}

int run_input_move(struct run_input *input, int orders)
{
	static char bytes[1 << 18];
	ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
	int r;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n < 0)
		log_errno(&cmd_log, -errno, "standard input");
	if (n <= 0) {
		run_input_end(input);
		dprintf(orders, "end\n");
		return 0;
	}
	r = write_part(input, bytes, (size_t)n);
	if (r < 0)
		return log_errno(&cmd_log, r,
		                 "standard input: cannot be kept for the guest: set TMPDIR to another place");
	dprintf(orders, "input %u\n", input->sent++);
	return 0;
}

void run_input_taken(struct run_input *input, unsigned int number)
{
	char name[16];

	if (number != input->taken || number == input->sent)
		return;
	snprintf(name, sizeof(name), "%u", number);
	unlinkat(input->dir, name, 0);
	input->taken++;
}
