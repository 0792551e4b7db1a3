/*
 * fuzz_kernel: owns a libfuse session that is not mounted.
 * Invariant: see fuzz_kernel.h; an answer that cannot be one fails.
 * (fuse_session_custom_io() is for this, but libfuse 3.18.3 has it disabled unless it was built with it.)
 * Called by the fuzz targets that serve a session.
 */
#include "fuzz_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fuse_ops_reply.h"
#include "unit.h"

enum { ERRNO_MAX = 511, ANSWER_MAX = 1 << 17, TAIL = 4096 };
enum { INTERRUPT_BIT = 1 }; /* an interrupt's number is that of the request with this bit */
enum { UNMOUNTED = -1 };    /* what libfuse has for a descriptor then, and writes answers to */

static struct kernel *listening;

static void learn(struct kernel *k, uint64_t node)
{
	if (node != 0 && k->n_nodes < KERNEL_NODES_MAX)
		k->nodes[k->n_nodes++] = node;
}

static void learn_listing(struct kernel *k, const unsigned char *bytes, size_t len)
{
	while (len > 0) {
		struct fuse_direntplus entry;
		size_t size;

		assert_true(len >= FUSE_NAME_OFFSET_DIRENTPLUS);
		memcpy(&entry, bytes, FUSE_NAME_OFFSET_DIRENTPLUS);
		size = FUSE_DIRENTPLUS_SIZE(&entry);
		assert_true(size <= len && entry.dirent.namelen > 0 && entry.dirent.namelen < 256);
		learn(k, entry.entry_out.nodeid);
		bytes += size;
		len -= size;
	}
}

/* What an answer says of inodes. */
static void read_answer(struct kernel *k, const unsigned char *body, size_t len)
{
	struct fuse_entry_out entry;

	switch (k->opcode) {
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
	case FUSE_CREATE:
		assert_true(len >= sizeof(entry));
		memcpy(&entry, body, sizeof(entry));
		assert_true(entry.nodeid == 0 || entry.nodeid == entry.attr.ino);
		learn(k, entry.nodeid);
		break;
	case FUSE_READDIRPLUS:
		learn_listing(k, body, len);
		break;
	default:
		break;
	}
}

/* libfuse gives an interrupt back when it knows no such request; the kernel would ask again. */
static void take_back_interrupt(struct kernel *k, uint64_t unique, int error)
{
	size_t nr = 0;

	while (nr < k->n_interrupts && k->interrupts[nr] != unique)
		nr++;
	if (nr == k->n_interrupts)
		fail_msg("an interrupt was answered twice, or never asked for");
	assert_true(error == -EAGAIN || error == -EIO);
	k->interrupts[nr] = k->interrupts[--k->n_interrupts];
}

/* Notifications have number 0, and come from another thread. */
static ssize_t hear(struct kernel *k, const struct iovec *iov, int count)
{
	static unsigned char bytes[ANSWER_MAX];
	struct fuse_out_header header;
	size_t len = 0, kept = 0;

	for (int i = 0; i < count; i++)
		len += iov[i].iov_len;
	memcpy(&header, iov[0].iov_base, sizeof(header));
	assert_int_equal(header.len, len);
	if (header.unique == 0)
		return (ssize_t)len;
	if (header.unique & INTERRUPT_BIT) {
		take_back_interrupt(k, header.unique, header.error);
		return (ssize_t)len;
	}
	for (int i = 0; i < count; i++) {
		size_t part = iov[i].iov_len < sizeof(bytes) - kept ? iov[i].iov_len : sizeof(bytes) - kept;

		memcpy(bytes + kept, iov[i].iov_base, part);
		kept += part;
	}
	assert_int_equal(header.unique, k->unique);
	assert_true(header.error <= 0 && header.error >= -ERRNO_MAX);
	k->n_answers++;
	k->error = header.error;
	if (header.unique == k->lost) {
		errno = ENOENT;
		return -1;
	}
	if (header.error == 0 && kept == len)
		read_answer(k, bytes + sizeof(header), len - sizeof(header));
	return (ssize_t)len;
}

/* In place of the C library's, which libfuse finds after this program's. */
ssize_t writev(int fd, const struct iovec *iov, int count)
{
	if (fd == UNMOUNTED && listening)
		return hear(listening, iov, count);
	return syscall(SYS_writev, fd, iov, count);
}

ssize_t splice(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t len, unsigned int flags)
{
	struct iovec answer = {.iov_len = len};
	ssize_t n;

	if (to != UNMOUNTED || !listening)
		return syscall(SYS_splice, from, from_offset, to, to_offset, len, flags);
	answer.iov_base = malloc(len);
	assert_non_null(answer.iov_base);
	for (size_t at = 0; at < len; at += (size_t)n) {
		n = read(from, (char *)answer.iov_base + at, len - at);
		assert_true(n > 0);
	}
	n = hear(listening, &answer, 1);
	free(answer.iov_base);
	return n;
}

static void be_silent(enum fuse_log_level level, const char *format, va_list args)
{
}

static void ready(void *arg)
{
}

void kernel_start(struct kernel *k, struct world *w, const struct fuse_ops_options *options)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);

	*k = (struct kernel){.w = w, .nodes = {FUSE_ROOT_ID}, .n_nodes = 1};
	fuse_set_log_func(be_silent);
	assert_int_equal(fuse_ops_new(&w->tree, options, ready, k, &k->ops), 0);
	assert_int_equal(fuse_opt_add_arg(&args, "umlfs"), 0);
	k->fuse = fuse_ops_session(k->ops, &args);
	fuse_opt_free_args(&args);
	assert_non_null(k->fuse);
	listening = k;
}

/* Each request makes libfuse give one interrupt back, unless it is the one that is meant. */
static void take_back_interrupts(struct kernel *k)
{
	static const unsigned char any[16] = {0};

	for (size_t n = k->n_interrupts; n > 0; n--)
		kernel_ask(k, FUSE_GETATTR, FUSE_ROOT_ID, 0, any, sizeof(any));
	k->n_interrupts = 0;
}

void kernel_stop(struct kernel *k)
{
	take_back_interrupts(k);
	fuse_session_destroy(k->fuse);
	listening = NULL;
	fuse_ops_free(k->ops);
}

/* Once; a forget never, but libfuse says EIO to everything before INIT. */
static bool answered_right(const struct kernel *k)
{
	if (k->opcode == FUSE_FORGET || k->opcode == FUSE_BATCH_FORGET)
		return k->n_answers == 0 || (k->n_answers == 1 && k->error == -EIO);
	return k->n_answers == 1;
}

static void hand_over(struct kernel *k, struct fuse_in_header header, const void *body, size_t len)
{
	const struct fuse_buf buf = {.size = sizeof(header) + len, .mem = k->request};

	assert_true(len <= KERNEL_BODY_MAX);
	header.len = (uint32_t)buf.size;
	memset(k->request + header.len, 0, TAIL);
	memcpy(k->request, &header, sizeof(header));
	if (len > 0)
		memcpy(k->request + sizeof(header), body, len);
	fuse_session_process_buf(k->fuse, &buf);
}

void kernel_interrupt(struct kernel *k, bool next, bool dies)
{
	const struct fuse_interrupt_in in = {.unique = next ? k->unique + 2 : k->unique};
	const struct fuse_in_header header = {.opcode = FUSE_INTERRUPT, .unique = in.unique | INTERRUPT_BIT};

	if (k->n_interrupts == KERNEL_INTERRUPTS_MAX)
		return;
	if (next && dies)
		k->lost = in.unique;
	k->interrupts[k->n_interrupts++] = header.unique;
	hand_over(k, header, &in, sizeof(in));
}

int kernel_ask(struct kernel *k, uint32_t opcode, uint64_t node, uint32_t uid, const void *body, size_t len)
{
	struct fuse_in_header header = {
		.opcode = opcode,
		.nodeid = node,
		.uid = uid,
		.gid = uid,
		.pid = 1,
	};

	if (opcode == FUSE_DESTROY)
		take_back_interrupts(k);
	k->unique += 2;
	header.unique = k->unique;
	k->opcode = opcode;
	k->n_answers = 0;
	k->error = 0;
	hand_over(k, header, body, len);
	if (!answered_right(k))
		fail_msg("request of kind %u: %u answers", opcode, k->n_answers);
	return k->error;
}

void kernel_init(struct kernel *k)
{
	const struct fuse_init_in init = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = 1 << 17,
		.flags = INT32_MAX, /* all but FUSE_INIT_RESERVED */
	};

	assert_int_equal(kernel_ask(k, FUSE_INIT, 0, 0, &init, sizeof(init)), 0);
}
