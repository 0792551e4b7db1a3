/*
 * control: the client's side: asks the daemon, or does the daemon's work when there is none.
 * Invariant: a request is carried out at most once.
 * Called by the program's commands and by state.
 */
#include "umlfs/control.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "control_socket.h"
#include "format.h"
#include "io.h"
#include "request.h"
#include "umlfs/mounts.h"
#include "users.h"

enum { OFFLINE_FILES = 64 }; /* descriptors kept by a command on a session that is not mounted */

static bool has(int dirfd, const char *name)
{
	return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool control_is_session(const char *path)
{
	cleanup_fd int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return dir >= 0 && !has(dir, FORMAT_OWN_DIR "/index") && has(dir, "manifest") && has(dir, "layers");
}

/* On the heap; NULL when it is not mounted where this process can see it. */
static char *mountpoint_of(const char *session)
{
	cleanup_free char *real = realpath(session, NULL);
	char *mountpoint;

	return real && mounts_find_session(real, &mountpoint) == 0 ? mountpoint : NULL;
}

/* Refuses a reset while a process has files open under the mountpoint. */
static int check_unused(const char *session, bool may_force, const struct log *log)
{
	cleanup_free char *mountpoint = mountpoint_of(session);
	const char *instead = may_force ? ", or give --force" : " first";
	struct users_found user;

	if (!mountpoint)
		return 0;
	if (users_find(mountpoint, -1, &user))
		return log_error(log, -EBUSY, "%s: in use by process %d (%s): %s; end it%s", session, (int)user.pid,
		                 user.name, user.path, instead);
	if (users_find_in_kernel(mountpoint, &user))
		return log_error(log, -EBUSY, "%s: in use by %s: %s; unmount it%s", session, user.name, user.path,
		                 instead);
	return 0;
}

/*
 * The kernel alone has what was written through shared mappings (mmap(2)), and would write it into the state that comes after.
 * It does not wait for the daemon here (fs/fuse/inode.c, fuse_sync_fs()), but has asked. Who may not enter the mount goes without.
 */
static void let_kernel_write(const char *session)
{
	cleanup_free char *mountpoint = mountpoint_of(session);
	cleanup_fd int fd = mountpoint ? open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0)
		syncfs(fd);
}

static int send_request(int fd, const struct request *request)
{
	char bytes[CONTROL_REQUEST_MAX];
	size_t len = control_encode(request, bytes);

	if (send(fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len || shutdown(fd, SHUT_WR) < 0)
		return -EPIPE;
	return 0;
}

static void pass_on(const struct log *log, enum log_level level, const char *text)
{
	if (log && log->write)
		log->write(log->arg, level, text);
}

/* Sorts the answer's lines; the last one must be its status. */
static int read_answer(FILE *from, const struct log *log, FILE *data)
{
	cleanup_free char *line = NULL;
	int status = 1;
	size_t size = 0;

	while (getline(&line, &size, from) > 2) {
		line[strcspn(line, "\n")] = '\0';
		switch (line[0]) {
		case 'E':
			pass_on(log, LOG_LEVEL_ERROR, line + 2);
			break;
		case 'W':
			pass_on(log, LOG_LEVEL_WARNING, line + 2);
			break;
		case 'N':
			pass_on(log, LOG_LEVEL_NOTE, line + 2);
			break;
		case 'D':
			fprintf(data, "%s\n", line + 2);
			break;
		case 'R':
			status = atoi(line + 2);
			break;
		default:
			break;
		}
	}
	return status > 0 ? log_error(log, -EPIPE, "the daemon ended before it had answered") : status;
}

static int ask_daemon(const char *session, int fd, const struct request *request, const struct log *log, FILE *data)
{
	cleanup_fd int copy = -1; /* the stream closes its own */
	FILE *from;
	int r;

	if (request_ends_state(request))
		let_kernel_write(session);
	r = send_request(fd, request);
	if (r < 0)
		return log_errno(log, r, "the daemon cannot be reached");
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	from = copy < 0 ? NULL : fdopen(copy, "r");
	if (!from)
		return log_errno(log, -errno, "the daemon's answer cannot be read");
	take_fd(&copy);
	r = read_answer(from, log, data);
	fclose(from);
	return r;
}

/* Root may look at what is another user's, and anybody at what nobody can change: what a killed daemon left stays as it is. */
static bool only_looks(int dirfd, const struct request *request)
{
	struct stat st;

	if (request->kind != REQUEST_LIST && request->kind != REQUEST_STATUS)
		return false;
	if (faccessat(dirfd, ".", W_OK, 0) < 0 && errno == EROFS)
		return true;
	return fstatat(dirfd, "manifest", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_uid != geteuid();
}

static int do_here(const char *session, int dirfd, const struct request *request, const struct log *log, FILE *data)
{
	struct store_options options = {.session = session, .log = log, .max_files = OFFLINE_FILES};
	struct snapshot_change change;
	struct store *store;
	int r;

	options.look = only_looks(dirfd, request);
	r = store_open(&options, &store);
	if (r < 0)
		return r;
	r = request_run(store, request, log, data, &change);
	if (r == 0 && !options.look)
		r = snapshot_clean_up(&store->session, &change);
	if (r == 0 && request->kind == REQUEST_SNAPSHOT)
		r = session_sync(&store->session);
	if (r == 0 && request->kind == REQUEST_DELETE)
		r = session_sync_manifest(&store->session); /* of the layers that were joined */
	if (r == 0 && request->kind == REQUEST_DELETE)
		r = store_remove_dropped(&store->session);
	store_close(store);
	return r;
}

static int carry_out(const char *session, const struct request *request, const struct log *log, FILE *data)
{
	cleanup_fd int dirfd = open(session, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_fd int fd = -1;

	if (dirfd < 0)
		return store_no_session(session, -errno, log);
	fd = control_connect(dirfd);
	if (fd == -ENOTCONN)
		return do_here(session, dirfd, request, log, data);
	if (fd < 0)
		return log_errno(log, fd, "%s/control", session);
	if (request->kind == REQUEST_RESET && !request->force) {
		int r = check_unused(session, request->may_force, log);

		if (r < 0)
			return r;
	}
	return ask_daemon(session, fd, request, log, data);
}

/* Counted here, because a daemon has better things to do. */
static void add_disk_use(const char *session, FILE *data)
{
	cleanup_fd int dirfd = open(session, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t bytes;

	if (dirfd >= 0 && io_disk_use(dirfd, "layers", &bytes) == 0)
		fprintf(data, "disk %llu\n", (unsigned long long)bytes);
}

/* Before anybody is asked: the socket has room for a name that can be one, and takes an empty one for none. */
static int check_name(const struct request *request, const struct log *log)
{
	if (!request->name || (request->kind == REQUEST_RESET && strcmp(request->name, SNAPSHOT_BASE) == 0))
		return 0;
	return snapshot_check_name(request->name, log);
}

int control_request(const char *session, const struct request *request, const struct log *log, char **text_out)
{
	cleanup_free char *text = NULL;
	size_t len;
	FILE *data;
	int r;

	if (request->kind == REQUEST_DELETE && request->name && strcmp(request->name, SNAPSHOT_BASE) == 0)
		return log_error(log, -EINVAL, SNAPSHOT_BASE ": is the base, and stays");
	r = check_name(request, log);
	if (r < 0)
		return r;
	data = open_memstream(&text, &len);
	if (!data)
		return -ENOMEM;
	r = carry_out(session, request, log, data);
	if (r == 0 && request->kind == REQUEST_STATUS)
		add_disk_use(session, data);
	if (fclose(data) != 0 && r == 0)
		r = -ENOMEM;
	if (r == 0)
		*text_out = take_ptr(&text);
	return r;
}

int control_seal(const char *session, const struct log *log, uint32_t *layer_out)
{
	cleanup_fd int dirfd = open(session, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_fd int fd = dirfd < 0 ? -ENOTCONN : control_connect(dirfd);
	cleanup_free char *text = NULL;
	FILE *data;
	size_t len;
	int r;

	if (fd < 0)
		return fd == -ENOTCONN ? fd : log_errno(log, fd, "%s/control", session);
	data = open_memstream(&text, &len);
	if (!data)
		return log_errno(log, -ENOMEM, "%s", session);
	r = ask_daemon(session, fd, &(struct request){.kind = REQUEST_SEAL}, log, data);
	if (fclose(data) != 0 && r == 0)
		r = log_errno(log, -ENOMEM, "%s", session);
	if (r == 0 && sscanf(text, "layer %" SCNu32, layer_out) != 1)
		r = log_error(log, -EPROTO, "%s: its daemon is of another version: unmount it, and mount it again",
		              session);
	return r;
}
