/*
 * serve: owns a mounted session: the loop, its threads, and what happens from mount to unmount.
 * Invariant: the tree and the session are touched by the loop's thread alone, but for session.commit, which has a lock, and
 * session.dirfd and layersfd, which never change: the threads that clean up, sync and remove use those. The session's lock is
 * let go of when everything is on disk.
 * Called by the program's mount command.
 */
#include "umlfs/serve.h"

#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include "cleanup.h"
#include "confine.h"
#include "crash.h"
#include "device.h"
#include "follow.h"
#include "fuse_ops.h"
#include "mountpoint.h"
#include "request.h"
#include "serve_args.h"
#include "serve_control.h"
#include "serve_settle.h"
#include "tree.h"
#include "twin.h"
#include "unmounter.h"

enum {
	FILES_MAX = 256,                   /* content descriptors kept open */
	FILES_SPARE = 64 + FUSE_OPS_FILES, /* left for everything else when the limit is low */
	REQUESTS_AT_ONCE = 64,             /* FUSE requests before the loop looks at anything else */
	EVENTS = 16,
};

struct server {
	const struct serve_options *options;
	struct log log; /* remembers the last problem on its way to options->log */
	char problem[256];
	struct store *store;
	struct tree tree;
	struct fuse_ops *ops;
	struct fuse_session *fuse;
	int device;                     /* a clone of its descriptor */
	struct fuse_buf buf, other_buf; /* the other one for requests that are answered within one */
	struct serve_control *control;
	struct follow follow;
	struct unmounter unmounter;
	int confined; /* as confine_process() answered */
	char *mountpoint;
	int epoll, signals;
	bool agreed, told;
	bool relieving;
	bool stop;
	bool pass; /* the other thread shall go on */
	int result;
};

static void remember_problem(void *arg, enum log_level level, const char *line)
{
	struct server *s = arg;

	if (level == LOG_LEVEL_ERROR)
		snprintf(s->problem, sizeof(s->problem), "%s", line);
	if (s->options->log && s->options->log->write)
		s->options->log->write(s->options->log->arg, level, line);
}

static unsigned int files_to_keep(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= FILES_MAX + FILES_SPARE)
		return FILES_MAX;
	return limit.rlim_cur > FILES_SPARE ? (unsigned int)limit.rlim_cur - FILES_SPARE : 4;
}

static void agreed(void *arg)
{
	struct server *s = arg;

	s->agreed = true;
}

/* Mounts; what libfuse and fusermount3 have to say about a failure goes to `why`, in one line, not to standard error. */
static int mount_silently(struct server *s, char *why, size_t size)
{
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	cleanup_fd int from = -1, to = -1;
	int fds[2], r;
	ssize_t n;

	*why = '\0';
	if (saved < 0 || pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		close_fd(saved);
		return fuse_ops_mount(s->fuse, s->mountpoint);
	}
	from = fds[0];
	to = fds[1];
	dup2(to, STDERR_FILENO);
	r = fuse_ops_mount(s->fuse, s->mountpoint);
	dup2(saved, STDERR_FILENO);
	close_fd(saved);
	n = read(from, why, size - 1);
	why[n > 0 ? n : 0] = '\0';
	why[strcspn(why, "\n")] = '\0';
	return r;
}

static int relieve(void *arg, int64_t until)
{
	struct server *s = arg;
	int n = 0;

	if (s->relieving)
		return -EBUSY;
	s->relieving = true;
	while (n < REQUESTS_AT_ONCE && fuse_ops_now() < until && fuse_session_receive_buf(s->fuse, &s->other_buf) > 0) {
		fuse_session_process_buf(s->fuse, &s->other_buf);
		n++;
	}
	s->relieving = false;
	return n;
}

static int mount_fuse(struct server *s)
{
	char why[256] = "";
	struct fuse_ops_options options = {
		.posix = s->options->posix,
		.xattr = s->options->posix || s->options->xattr,
		.owner_caller = s->options->owner_caller,
		.host_uid = geteuid(),
		.relieve = relieve,
		.relieve_arg = s,
	};
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int r = fuse_ops_new(&s->tree, &options, agreed, s, &s->ops);

	if (r == 0)
		r = serve_args(s->options, s->store->path, &args);
	if (r == 0) {
		s->fuse = fuse_ops_session(s->ops, &args);
		r = s->fuse ? 0 : -EINVAL;
	}
	fuse_opt_free_args(&args);
	if (r == 0)
		r = unmounter_name(&s->unmounter, s->store->path, s->mountpoint);
	fcntl(s->store->lockfd, F_SETFD, 0); /* see store_lock.h */
	if (r == 0)
		r = mount_silently(s, why, sizeof(why));
	fcntl(s->store->lockfd, F_SETFD, FD_CLOEXEC);
	if (r < 0)
		return log_error(&s->log, r, "%s: cannot be mounted%s%s", s->mountpoint, *why ? ": " : "", why);
	r = mountpoint_note(s->store, s->mountpoint, &s->log);
	if (r < 0)
		return r;
	r = fcntl(fuse_session_fd(s->fuse), F_GETFL);
	if (fcntl(fuse_session_fd(s->fuse), F_SETFL, r | O_NONBLOCK) < 0)
		return -errno;
	s->device = device_clone(fuse_session_fd(s->fuse));
	r = s->device < 0 ? s->device : unmounter_lend(&s->unmounter, s->device);
	return r < 0 ? log_errno(&s->log, r, "%s: /dev/fuse: cannot be opened a second time", s->mountpoint) : 0;
}

/* The signals that end the mount, as a descriptor, from before any thread exists. */
static int block_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static int watch(struct server *s, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void print_status(void *arg, FILE *out)
{
	const struct server *s = arg;
	const struct serve_options *o = s->options;

	request_print_path(out, "mountpoint", s->mountpoint);
	fprintf(out, "pid %d\nprofile %s\n", (int)getpid(), o->posix ? "posix" : "guest");
	if (o->xattr && !o->posix)
		fprintf(out, "option xattr\n");
	if (o->owner_caller)
		fprintf(out, "option owner=caller\n");
	if (o->allow_other)
		fprintf(out, "option allow_other\n");
	if (o->read_only)
		fprintf(out, "option ro\n");
	if (o->bytes_max)
		fprintf(out, "size_limit %llu\n", o->bytes_max);
	if (o->inodes_max)
		fprintf(out, "inodes_limit %llu\n", o->inodes_max);
	if (s->confined < 0)
		fprintf(out, "confined no: %s\n", confine_why_not(s->confined));
	else
		fprintf(out, "confined yes\n");
	if (*s->problem)
		fprintf(out, "problem %s\n", s->problem);
	fuse_ops_print_counts(s->ops, out);
}

static void settle(void *arg)
{
	struct server *s = arg;

	serve_settle(s->fuse, &s->buf, s->ops);
}

/* Opens the session and mounts it. */
static int mount_session(struct server *s)
{
	const struct serve_options *o = s->options;
	struct store_options options = {
		.session = o->session, .base = o->base, .log = &s->log, .max_files = files_to_keep()};
	int r = store_open(&options, &s->store);

	if (r < 0)
		return r;
	s->store->session.quota = (struct quota){.bytes = o->bytes_max, .inodes = o->inodes_max};
	if (!o->read_only)
		session_mark(&s->store->session); /* confined, it could not */
	tree_init(&s->tree, &s->store->session);
	s->signals = block_signals();
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->signals < 0 || s->epoll < 0)
		return log_errno(&s->log, s->signals < 0 ? s->signals : -errno, "%s", o->session);
	r = mountpoint_prepare(s->store, o->mountpoint, o->base, &s->log, &s->mountpoint);
	if (r == 0)
		r = mount_fuse(s);
	return r < 0 ? r : store_check_base(s->store, &s->log);
}

/* In this order: the unmounter has nothing of the session, and threads are confined when they start. */
static int start(struct server *s)
{
	const struct serve_options *o = s->options;
	struct serve_control_options control = {.tree = &s->tree, .status = print_status, .settle = settle, .arg = s};
	int r = mountpoint_check_fuse(&s->log);

	if (r < 0)
		return r;
	r = unmounter_fork(&s->unmounter);
	if (r < 0)
		return log_errno(&s->log, r, "%s", o->session);
	r = mount_session(s);
	if (r < 0)
		return r;
	control.store = s->store;
	control.fuse = s->fuse;
	control.fuse_fd = fuse_session_fd(s->fuse);
	control.device = s->device;
	control.epoll = s->epoll;
	r = serve_control_new(&control, &s->control);
	if (r < 0)
		return log_errno(&s->log, r, "%s/control", o->session);
	r = watch(s, fuse_session_fd(s->fuse));
	if (r == 0)
		r = watch(s, s->signals);
	if (r == 0)
		r = watch(s, s->unmounter.fd);
	if (r == 0) {
		s->confined = confine_process(s->store->session.dirfd, s->store->session.base->treefd);
		r = serve_control_start(s->control);
	}
	if (r == 0)
		r = removals_new(s->store->session.layersfd, &s->store->session.removals);
	if (r == 0)
		r = watch(s, removals_fd(s->store->session.removals));
	if (r == 0)
		r = crash_prepare(fuse_session_fd(s->fuse), s->unmounter.fd);
	if (r == 0)
		r = fuse_ops_start(s->ops);
	if (r == 0)
		r = watch(s, fuse_ops_fd(s->ops));
	if (r == 0 && o->opened)
		o->opened(o->ready_arg);
	return r < 0 ? log_errno(&s->log, r, "%s", o->session) : 0;
}

/* Answers requests until there are none, or others may want to be heard. */
static void serve_fuse(struct server *s)
{
	for (int i = 0; i < REQUESTS_AT_ONCE; i++) {
		int n = fuse_session_receive_buf(s->fuse, &s->buf);

		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n <= 0) {
			s->stop = true; /* unmounted: the descriptor has nothing more to say */
			epoll_ctl(s->epoll, EPOLL_CTL_DEL, fuse_session_fd(s->fuse), NULL);
			return;
		}
		fuse_session_process_buf(s->fuse, &s->buf);
		if (s->agreed && !s->told) {
			s->told = true;
			if (s->options->ready)
				s->options->ready(s->options->ready_arg, s->mountpoint);
		}
		if (follow_turn(&s->follow, fuse_ops_client(s->ops), fuse_ops_readings(s->ops))) {
			s->pass = true;
			return;
		}
	}
}

/* The loop goes on until it is unmounted, because the kernel may have something to write before. The second signal is meant. */
static void stop_by_signal(struct server *s)
{
	struct signalfd_siginfo info;

	if (read(s->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (s->unmounter.asked || unmounter_ask(&s->unmounter) < 0)
		s->stop = true;
}

/* It is unmounted, though processes may still be in there; or somebody has killed the unmounter, which matters later. */
static void unmounter_ended(struct server *s)
{
	epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->unmounter.fd, NULL);
	if (s->unmounter.asked)
		s->stop = true;
}

static void serve_event(struct server *s, int fd)
{
	if (fd == fuse_session_fd(s->fuse))
		serve_fuse(s);
	else if (fd == fuse_ops_fd(s->ops))
		fuse_ops_ready(s->ops);
	else if (fd == removals_fd(s->store->session.removals))
		removals_ready(s->store->session.removals);
	else if (fd == s->signals)
		stop_by_signal(s);
	else if (fd == s->unmounter.fd)
		unmounter_ended(s);
	else
		serve_control_ready(s->control, fd);
}

/* Waits for events, and hands over the removals when it is time. How many events. */
static int wait_for_events(struct server *s, struct epoll_event events[EVENTS])
{
	struct removals *removals = s->store->session.removals;
	int due = removals_due(removals);
	int n = due == 0 ? 0 : epoll_wait(s->epoll, events, EVENTS, due);

	if (n == 0)
		removals_push(removals);
	return n;
}

static enum twin_next loop(void *arg, bool gives_way)
{
	struct epoll_event events[EVENTS];
	struct server *s = arg;

	follow_start(&s->follow, gives_way);
	s->pass = false;
	while (!s->stop || serve_control_busy(s->control)) {
		int n;

		if (s->pass)
			return gives_way ? TWIN_PLAIN : TWIN_GIVING_WAY;
		n = wait_for_events(s, events);
		if (n < 0 && errno != EINTR) {
			s->result = log_errno(&s->log, -errno, "%s", s->options->session);
			return TWIN_END;
		}
		for (int i = 0; i < n; i++)
			serve_event(s, events[i].data.fd);
	}
	return TWIN_END;
}

/*
 * Closes /dev/fuse. libfuse would then unmount what it mounted, which this process may not: so it finds a descriptor in the
 * place that says, by POLLERR, that there is no such mount any more.
 */
static void close_fuse(struct fuse_session *fuse)
{
	int fds[2];

	if (fuse_session_fd(fuse) >= 0 && pipe2(fds, O_CLOEXEC) == 0) {
		close_fd(fds[0]);
		dup3(fds[1], fuse_session_fd(fuse), O_CLOEXEC);
		close_fd(fds[1]);
	}
	fuse_session_unmount(fuse);
}

static void unmount(struct server *s)
{
	int r = 0;

	crash_forget();
	if (s->fuse) {
		close_fuse(s->fuse);
		serve_control_stop(s->control);
		s->device = close_fd(s->device);
		r = unmounter_ask(&s->unmounter);
	}
	if (unmounter_wait(&s->unmounter) < 0 || r < 0)
		log_error(&s->log, r, "%s: cannot be unmounted: do it with `umlfs umount %s`", s->mountpoint,
		          s->mountpoint);
}

/* In the order in which things depend on each other: the kernel first, the lock last. */
static int finish(struct server *s, bool started)
{
	int r = 0;

	fuse_ops_stop(s->ops); /* while there is a kernel that hears the answers */
	unmount(s);
	serve_control_free(s->control);
	if (s->store) {
		removals_free(s->store->session.removals);
		s->store->session.removals = NULL;
		if (s->store->loaded && !s->options->throw_away)
			r = session_sync(&s->store->session);
		if (r < 0)
			log_errno(&s->log, r, "%s: not everything is on disk", s->options->session);
		else if (s->store->loaded && !s->options->throw_away && !s->options->read_only)
			session_save_tables(&s->store->session);
		tree_fini(&s->tree);
	}
	if (s->fuse)
		fuse_session_destroy(s->fuse);
	free(s->buf.mem);
	free(s->other_buf.mem);
	fuse_ops_free(s->ops);
	close_fd(s->device);
	close_fd(s->epoll);
	close_fd(s->signals);
	free(s->mountpoint);
	if (s->store && !started)
		store_unmake(s->store);
	if (s->store)
		store_close(s->store);
	return r;
}

int serve_run(const struct serve_options *options)
{
	struct server s = {.options = options, .device = -1, .epoll = -1, .signals = -1, .unmounter.fd = -1};
	bool started;
	int r, end;

	s.log = (struct log){.write = remember_problem, .arg = &s};
	signal(SIGXFSZ, SIG_IGN); /* who writes hears EFBIG */
	mallopt(M_ARENA_MAX, 1);  /* the heap of another thread than the first grows by one mprotect() for each page */
	r = start(&s);
	started = r == 0;
	follow_init(&s.follow);
	if (started) {
		twin_run(loop, &s);
		r = s.result;
	}
	end = finish(&s, started);
	return r < 0 ? r : end;
}
