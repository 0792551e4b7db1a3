/*
 * init_streams: carries what goes into and comes out of a command that has no terminal.
 *
 * Owns this side of the command's pipes. Its output goes from a pipe to a console at once: this process has a
 * real-time priority, so that it runs before the writer goes on, and the last words before a panic are with the
 * host. Its input comes in files of the host's, which are numbered from 0: a console can carry no end of a file.
 *
 * Invariant: input that was taken is told to the host once, in order; nothing is thrown away but what nobody reads.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 16 };

static char buffer[COPY_BYTES];

/* A pipe whose end 1 the command gets, or whose end 0. */
static int make_pipe(int mine, int *mine_out, int *theirs_out)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return init_failed(-errno, "pipe");
	*mine_out = fds[mine];
	*theirs_out = fds[!mine];
	return 0;
}

static int open_input(struct init_streams *s)
{
	int r = init_mount_input(&s->dir);

	if (r == 0)
		r = make_pipe(1, &s->input, &s->theirs[STDIN_FILENO]);
	if (r == 0)
		fcntl(s->input, F_SETFL, O_NONBLOCK);
	return r;
}

int init_streams_open(const struct init_job *job, struct init_streams *out)
{
	struct init_streams s = {
		.input = -1, .from = {-1, -1}, .to = {-1, -1}, .theirs = {-1, -1, -1}, .dir = -1, .part = -1};
	int r = job->input_piped ? open_input(&s) : 0;

	if (r == 0 && job->output_piped)
		r = make_pipe(0, &s.from[0], &s.theirs[STDOUT_FILENO]);
	if (r == 0 && job->apart && job->errors_piped)
		r = make_pipe(0, &s.from[1], &s.theirs[STDERR_FILENO]);
	else if (!job->apart)
		s.theirs[STDERR_FILENO] = s.theirs[STDOUT_FILENO];
	if (r == 0)
		*out = s;
	return r;
}

void init_streams_give(const struct init_streams *s, uid_t owner)
{
	for (int fd = 0; fd < 3; fd++) {
		if (s->theirs[fd] < 0)
			continue;
		fchown(s->theirs[fd], owner, (gid_t)-1); /* who wants to open /dev/stdout */
		dup2(s->theirs[fd], fd);
	}
}

void init_streams_begin(struct init_streams *s)
{
	const struct sched_param first = {.sched_priority = 1};

	for (int fd = 0; fd < 3; fd++) {
		if (s->theirs[fd] >= 0 && !(fd == STDERR_FILENO && s->theirs[fd] == s->theirs[STDOUT_FILENO]))
			close(s->theirs[fd]);
	}
	if (s->from[0] >= 0 || s->from[1] >= 0)
		sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first);
}

void init_streams_poll(const struct init_streams *s, struct pollfd *fds)
{
	fds[0] = (struct pollfd){.fd = s->from[0], .events = POLLIN};
	fds[1] = (struct pollfd){.fd = s->from[1], .events = POLLIN};
	fds[2] = (struct pollfd){.fd = s->input, .events = s->part >= 0 ? POLLOUT : 0};
}

static void close_input(struct init_streams *s, const char *line)
{
	if (s->part >= 0)
		close(s->part);
	close(s->input);
	s->part = s->input = -1;
	init_say("%s", line);
}

/* Opens the next part when there is one, else ends the input when there will be none. */
static void next_part(struct init_streams *s)
{
	char name[16];

	if (s->input < 0 || s->part >= 0)
		return;
	if (s->taken == s->told) {
		if (s->ended)
			close_input(s, "");
		return;
	}
	snprintf(name, sizeof(name), "%u", s->taken);
	s->part = openat(s->dir, name, O_RDONLY | O_CLOEXEC);
	if (s->part < 0) {
		init_failed(-errno, "standard input");
		close_input(s, "closed\n");
	}
}

/* Puts as much into the command's pipe as it takes. */
static void feed(struct init_streams *s)
{
	off_t before = lseek(s->part, 0, SEEK_CUR);
	ssize_t len = read(s->part, buffer, sizeof(buffer));
	ssize_t n = len > 0 ? write(s->input, buffer, (size_t)len) : len;

	if (len > 0 && n < 0 && errno != EAGAIN) {
		close_input(s, "closed\n");
		return;
	}
	if (len > 0) {
		lseek(s->part, before + (n > 0 ? n : 0), SEEK_SET);
		return;
	}
	if (len < 0)
		init_failed(-errno, "standard input");
	close(s->part);
	s->part = -1;
	init_say("taken %u\n", s->taken++);
}

/* Carries what is there. */
static void carry(struct init_streams *s, int i)
{
	ssize_t n = splice(s->from[i], NULL, s->to[i], NULL, COPY_BYTES, 0);

	if (n == 0 || (n < 0 && errno != EINTR)) {
		close(s->from[i]);
		s->from[i] = -1;
	}
}

void init_streams_move(struct init_streams *s, const struct pollfd *fds)
{
	for (int i = 0; i < 2; i++) {
		if (fds[i].revents && s->from[i] >= 0)
			carry(s, i);
	}
	if (fds[2].revents & POLLERR)
		close_input(s, "closed\n");
	else if (fds[2].revents && s->part >= 0)
		feed(s);
	next_part(s);
}

void init_streams_hear(struct init_streams *s, const char *line)
{
	unsigned int number;

	if (sscanf(line, "input %u", &number) == 1)
		s->told = number + 1;
	else
		s->ended = true;
	next_part(s);
}

void init_streams_finish(struct init_streams *s)
{
	for (int i = 0; i < 2; i++) {
		while (s->from[i] >= 0)
			carry(s, i);
	}
}
