/*
 * unit_confine: promises of confine: a process that was taken over reaches nothing but its base and its session.
 * Invariant: every attempt is one that succeeds before the process is confined.
 * Called by meson test.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine.h"
#include "unit.h"
#include "unit_place.h"

enum { OUTSIDE, BASE, SESSION, PLACES };

static const char *const dirs[PLACES] = {"outside", "base", "session"};

struct attempt {
	const char *name;
	int (*run)(const struct place *p, const char *dir); /* 0, or -errno */
	bool allowed[PLACES];
	int since; /* the version of Landlock that knows it */
};

static const char *path_of(const struct place *p, const char *dir, const char *name)
{
	static _Thread_local char path[2][300];
	static _Thread_local unsigned int turn;
	char *out = path[turn++ % 2];

	snprintf(out, sizeof(path[0]), "%s/%s/%s", p->path, dir, name);
	return out;
}

static int status_of(long r)
{
	return r < 0 ? -errno : 0;
}

static int open_as(const struct place *p, const char *dir, const char *name, int flags)
{
	int fd = open(path_of(p, dir, name), flags | O_CLOEXEC, 0700);
	int r = status_of(fd);

	if (fd >= 0)
		close(fd);
	return r;
}

static int try_read(const struct place *p, const char *dir)
{
	return open_as(p, dir, "file", O_RDONLY);
}

static int try_write(const struct place *p, const char *dir)
{
	return open_as(p, dir, "file", O_WRONLY);
}

static int try_append(const struct place *p, const char *dir)
{
	return open_as(p, dir, "file", O_RDWR | O_APPEND);
}

static int try_create(const struct place *p, const char *dir)
{
	return open_as(p, dir, "new", O_WRONLY | O_CREAT);
}

static int try_unnamed(const struct place *p, const char *dir)
{
	return open_as(p, dir, ".", O_WRONLY | O_TMPFILE);
}

static int try_list(const struct place *p, const char *dir)
{
	return open_as(p, dir, ".", O_RDONLY | O_DIRECTORY);
}

static int try_truncate(const struct place *p, const char *dir)
{
	return status_of(truncate(path_of(p, dir, "file"), 1));
}

static int try_unlink(const struct place *p, const char *dir)
{
	return status_of(unlink(path_of(p, dir, "victim")));
}

static int try_rmdir(const struct place *p, const char *dir)
{
	return status_of(rmdir(path_of(p, dir, "empty")));
}

static int try_mkdir(const struct place *p, const char *dir)
{
	return status_of(mkdir(path_of(p, dir, "made"), 0700));
}

static int try_rename(const struct place *p, const char *dir)
{
	return status_of(rename(path_of(p, dir, "file"), path_of(p, dir, "renamed")));
}

static int try_move_in(const struct place *p, const char *dir)
{
	return status_of(rename(path_of(p, dir, "file"), path_of(p, "session", "moved")));
}

static int try_move_out(const struct place *p, const char *dir)
{
	return status_of(rename(path_of(p, "session", "file"), path_of(p, dir, "moved")));
}

static int try_link_in(const struct place *p, const char *dir)
{
	return status_of(link(path_of(p, dir, "file"), path_of(p, "session", "linked")));
}

static int try_symlink(const struct place *p, const char *dir)
{
	return status_of(symlink("file", path_of(p, dir, "symlink")));
}

static int try_fifo(const struct place *p, const char *dir)
{
	return status_of(mkfifo(path_of(p, dir, "fifo"), 0700));
}

/* A symlink that somebody left in the session leads nowhere else. */
static int try_through_symlink(const struct place *p, const char *dir)
{
	char name[32];

	snprintf(name, sizeof(name), "to-%s", dir);
	return open_as(p, "session", name, O_RDONLY);
}

/* A descriptor of a directory is no way around: what was open before is the base and the session. */
static int try_dotdot(const struct place *p, const char *dir)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "session/../%s/file", dir);
	fd = openat(p->fd, path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : close(fd);
}

static int try_exec(const struct place *p, const char *dir)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		execl("/bin/true", "true", NULL);
		_exit(errno);
	}
	waitpid(pid, &status, 0);
	return -WEXITSTATUS(status);
}

/* What is allowed outside, in the base, in the session. */
static const struct attempt attempts[] = {
	{"read", try_read, {false, true, true}, 1},
	{"write", try_write, {false, false, true}, 1},
	{"append", try_append, {false, false, true}, 1},
	{"create", try_create, {false, false, true}, 1},
	{"an unnamed file", try_unnamed, {false, false, true}, 1},
	{"list", try_list, {false, false, true}, 1},
	{"truncate", try_truncate, {false, false, true}, 3},
	{"unlink", try_unlink, {false, false, true}, 1},
	{"rmdir", try_rmdir, {false, false, true}, 1},
	{"mkdir", try_mkdir, {false, false, true}, 1},
	{"rename", try_rename, {false, false, true}, 1},
	{"move in", try_move_in, {false, false, true}, 1},
	{"move out", try_move_out, {false, false, true}, 1},
	{"link in", try_link_in, {false, false, true}, 1},
	{"symlink", try_symlink, {false, false, false}, 1},
	{"fifo", try_fifo, {false, false, false}, 1},
	{"a symlink of the session", try_through_symlink, {false, true, true}, 1},
	{"..", try_dotdot, {false, false, true}, 1},
	{"exec", try_exec, {false, false, false}, 1},
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	place_make(p);
	for (int i = 0; i < PLACES; i++) {
		char path[100];

		assert_int_equal(mkdirat(p->fd, dirs[i], 0755), 0);
		for (const char *const *name = (const char *const[]){"file", "victim", NULL}; *name; name++) {
			snprintf(path, sizeof(path), "%s/%s", dirs[i], *name);
			place_put(p->fd, path, "bytes", 5);
		}
		snprintf(path, sizeof(path), "%s/empty", dirs[i]);
		assert_int_equal(mkdirat(p->fd, path, 0755), 0);
	}
	for (int i = 0; i < PLACES; i++) {
		char target[300], name[64];

		snprintf(target, sizeof(target), "%s/%s/file", p->path, dirs[i]);
		snprintf(name, sizeof(name), "session/to-%s", dirs[i]);
		assert_int_equal(symlinkat(target, p->fd, name), 0);
	}
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	place_remove(*state);
	free(*state);
	return 0;
}

static int confine_here(const struct place *p)
{
	int session = openat(p->fd, "session", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int base = openat(p->fd, "base", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = confine_process(session, base);

	close(session);
	close(base);
	return r;
}

/* What a process answers that runs this, confined or not; a status must fit into a byte. */
static int in_process(int (*run)(const struct place *p, const void *arg), const struct place *p, const void *arg,
                      bool confined)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		if (confined && confine_here(p) < 0)
			_exit(254);
		_exit(run(p, arg) < 0 ? errno : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

/* 0 where this kernel has no Landlock: then there is nothing to promise here, and the program says so in its status. */
static int version(const struct place *p)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		int r = confine_here(p);

		_exit(r == -ENOSYS || r == -EOPNOTSUPP ? 0 : r < 0 ? 255 : r);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 255);
	if (WEXITSTATUS(status) == 0)
		print_message("this kernel has no Landlock\n");
	return WEXITSTATUS(status);
}

struct aim {
	const struct attempt *attempt;
	const char *dir;
};

static int run_aim(const struct place *p, const void *arg)
{
	const struct aim *aim = arg;
	int r = aim->attempt->run(p, aim->dir);

	errno = -r;
	return r;
}

static void only_the_base_and_the_session_can_be_reached(void **state)
{
	int known = version(*state);

	for (size_t i = 0; i < ARRAY_LEN(attempts); i++) {
		for (int dir = 0; dir < PLACES; dir++) {
			struct aim aim = {&attempts[i], dirs[dir]};
			int r;

			teardown(state);
			setup(state);
			expect_status(in_process(run_aim, *state, &aim, false), 0, "%s in %s, unconfined",
			              attempts[i].name, dirs[dir]);
			teardown(state);
			setup(state);
			r = in_process(run_aim, *state, &aim, true);
			if (attempts[i].allowed[dir])
				expect_status(r, 0, "%s in %s", attempts[i].name, dirs[dir]);
			else if (known >= attempts[i].since && r != -EACCES && r != -EXDEV)
				fail_msg("%s in %s: got %d", attempts[i].name, dirs[dir], r);
		}
	}
}

static void *try_in_thread(void *arg)
{
	return (void *)(intptr_t)try_write(arg, "outside");
}

static int write_in_thread(const struct place *p, const void *arg)
{
	pthread_t thread;
	void *result;

	if (pthread_create(&thread, NULL, try_in_thread, (void *)(uintptr_t)p) != 0)
		return 0;
	pthread_join(thread, &result);
	errno = (int)-(intptr_t)result;
	return (int)(intptr_t)result;
}

static void a_thread_that_starts_later_is_confined_too(void **state)
{
	expect_status(in_process(write_in_thread, *state, NULL, false), 0, "unconfined");
	if (version(*state) > 0)
		expect_status(in_process(write_in_thread, *state, NULL, true), -EACCES, "confined");
}

static int signal_parent(const struct place *p, const void *arg)
{
	return kill(getppid(), 0);
}

static int connect_to(const struct sockaddr *address, socklen_t len)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return connect(fd, address, len);
}

static int connect_tcp(const struct place *p, const void *arg)
{
	return connect_to(arg, sizeof(struct sockaddr_in));
}

static int connect_abstract(const struct place *p, const void *arg)
{
	return connect_to(arg, sizeof(struct sockaddr_un));
}

static void other_processes_and_the_network_cannot_be_reached(void **state)
{
	struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un abstract = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(tcp);
	int known = version(*state);
	int one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
	    other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(abstract.sun_path + 1, sizeof(abstract.sun_path) - 1, "umlfs-unit-%d", (int)getpid());
	assert_int_equal(bind(one, (struct sockaddr *)&tcp, sizeof(tcp)), 0);
	assert_int_equal(listen(one, 4), 0);
	assert_int_equal(getsockname(one, (struct sockaddr *)&tcp, &len), 0);
	assert_int_equal(bind(other, (struct sockaddr *)&abstract, sizeof(abstract)), 0);
	assert_int_equal(listen(other, 4), 0);
	for (int confined = 0; confined < 2; confined++) {
		expect_status(in_process(connect_tcp, *state, &tcp, confined), confined && known >= 4 ? -EACCES : 0,
		              "TCP, confined: %d", confined);
		expect_status(in_process(connect_abstract, *state, &abstract, confined),
		              confined && known >= 6 ? -EPERM : 0, "an abstract socket, confined: %d", confined);
		expect_status(in_process(signal_parent, *state, NULL, confined), confined && known >= 6 ? -EPERM : 0,
		              "a signal, confined: %d", confined);
	}
	close(one);
	close(other);
}

/* Privileges: 0 when there are none to be had. */
static int become_root_again(const struct place *p, const void *arg)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &head, sets) < 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return -1;
	if ((sets[0].permitted & ~(1u << CAP_DAC_OVERRIDE)) || sets[1].permitted || sets[0].inheritable) {
		errno = EISDIR;
		return -1;
	}
	sets[0].permitted = sets[0].effective = UINT32_MAX;
	errno = EISDIR;
	return syscall(SYS_capset, &head, sets) == 0 || umount2("/proc", MNT_DETACH) == 0 ? -1 : 0;
}

static void what_was_given_up_does_not_come_back(void **state)
{
	expect_status(in_process(become_root_again, *state, NULL, true), 0, "confined");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(only_the_base_and_the_session_can_be_reached),
		TEST(a_thread_that_starts_later_is_confined_too),
		TEST(other_processes_and_the_network_cannot_be_reached),
		TEST(what_was_given_up_does_not_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
