/*
 * fuzz_requests: bytes as requests of a kernel, given to libfuse and what serves it, with snapshots and deaths of the daemon in between.
 * Invariant: whatever is asked, the session is sound afterwards, and the same when it is opened again.
 * Called by a fuzzer or by its replay.
 *
 *     input:   flags 1 byte | request ...
 *     request: kind 1 byte | inode 1 byte | what forms[] says of the kind, cut off or not
 *
 * Requests are framed as a kernel frames them: libfuse believes lengths, and strings to have an end. The numbers in them are any.
 */
#include "fuzz.h"

#include <linux/fuse.h>
#include <unistd.h>

#include "fuzz_kernel.h"
#include "fuzz_world.h"
#include "unit.h"

enum {
	SNAPSHOT = 248, /* kinds that are no requests */
	RESET,
	AGAIN,
	RAW, /* a request of any kind, with any bytes */
	INTERRUPT,
	REQUESTS_MAX = 200,
	PAYLOAD_MAX = 4096,
	BYTES_MAX = 1 << 20, /* of a session */
	FILES_MAX = 64,
};

enum { WITH_POSIX = 1, WITH_XATTR = 2, WITH_CALLER = 4, WITH_QUOTA = 8, WITH_CRASH = 16, WITHOUT_INIT = 32 };

/*
 * What follows the header: 4, 8 a number of so many bytes; N an inode's number; z, 4 bytes: how long b is; n a name; t a link's
 * target; b bytes; 0 four bytes of zero; F a list of forgets.
 */
static const struct form {
	uint32_t opcode;
	const char *form;
} forms[] = {
	{FUSE_LOOKUP, "n"},
	{FUSE_FORGET, "8"},
	{FUSE_GETATTR, "408"},
	{FUSE_READLINK, ""},
	{FUSE_SYMLINK, "nt"},
	{FUSE_MKNOD, "4440n"},
	{FUSE_MKDIR, "44n"},
	{FUSE_UNLINK, "n"},
	{FUSE_RMDIR, "n"},
	{FUSE_RENAME, "Nnn"},
	{FUSE_LINK, "Nn"},
	{FUSE_OPEN, "44"},
	{FUSE_READ, "884480"},
	{FUSE_WRITE, "88z4840b"},
	{FUSE_STATFS, ""},
	{FUSE_RELEASE, "8448"},
	{FUSE_FSYNC, "840"},
	{FUSE_SETXATTR, "z4nb"},
	{FUSE_GETXATTR, "40n"},
	{FUSE_LISTXATTR, "40"},
	{FUSE_REMOVEXATTR, "n"},
	{FUSE_FLUSH, "8408"},
	{FUSE_OPENDIR, "44"},
	{FUSE_READDIR, "884480"},
	{FUSE_RELEASEDIR, "8448"},
	{FUSE_FSYNCDIR, "840"},
	{FUSE_ACCESS, "40"},
	{FUSE_CREATE, "4440n"},
	{FUSE_DESTROY, ""},
	{FUSE_BATCH_FORGET, "F"},
	{FUSE_FALLOCATE, "88840"},
	{FUSE_READDIRPLUS, "884480"},
	{FUSE_RENAME2, "N40nn"},
	{FUSE_LSEEK, "8840"},
	{FUSE_COPY_FILE_RANGE, "88N888"},
	{FUSE_SETATTR, "408888884444044"},
	{FUSE_INIT, "4444"},
	{FUSE_LOOKUP, "n"},
	{FUSE_WRITE, "88z4840b"},
	{FUSE_SETATTR, "408888884444044"},
	{FUSE_RENAME2, "N40nn"},
};

/* In the base, and what requests make. Names of the longest and of more bytes come from name(). */
static const char *const names[] = {"dir",    "sub",       "deep", "empty", "file", "hard", "child",
                                    "link",   "char",      "fifo", "a",     "b",    "c",    "d",
                                    "user.x", "trusted.y", ".",    "..",    "",     "a/b"};

/* Small ones mostly, and every edge. */
static uint64_t number(struct fuzz_input *in)
{
	unsigned int kind = fuzz_byte(in);
	uint64_t n = 0;

	if (kind < 192)
		return kind;
	if (kind < 224)
		return UINT64_C(1) << (kind - 192) * 2;
	if (kind < 232)
		return UINT64_MAX - (kind - 224);
	if (kind < 240)
		return (uint64_t)INT64_MAX - 3 + (kind - 232);
	for (unsigned int i = 0; i < 1 + kind % 8; i++)
		n = n << 8 | fuzz_byte(in);
	return n;
}

struct body {
	unsigned char bytes[KERNEL_BODY_MAX];
	size_t len;
};

static void put(struct body *b, const void *bytes, size_t len)
{
	assert_true(len <= sizeof(b->bytes) - b->len);
	memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
}

static void put_4(struct body *b, uint64_t n)
{
	uint32_t low = (uint32_t)n;

	put(b, &low, sizeof(low));
}

/* Repeated to a length, with an end. */
static void put_text(struct body *b, unsigned char letter, size_t len)
{
	memset(b->bytes + b->len, letter, len);
	b->len += len;
	put(b, "", 1);
}

static void put_name(struct body *b, struct fuzz_input *in)
{
	unsigned int kind = fuzz_byte(in);
	const char *name = names[kind % ARRAY_LEN(names)];

	if (kind < 240)
		put(b, name, strlen(name) + 1);
	else if (kind < 244)
		put_text(b, 'l', 252 + kind - 240); /* up to 255 */
	else if (kind < 246)
		put_text(b, 'm', 256 + kind - 244);
	else
		put_text(b, (unsigned char)(fuzz_byte(in) | 1), 1 + kind % 4);
}

static void put_target(struct body *b, struct fuzz_input *in)
{
	put_text(b, (unsigned char)(fuzz_byte(in) | 1), (size_t)(number(in) % (PAYLOAD_MAX + 2)));
}

static uint64_t node(struct kernel *k, struct fuzz_input *in)
{
	unsigned int kind = fuzz_byte(in);

	return kind < 250 ? k->nodes[kind % k->n_nodes] : number(in);
}

static void put_forgets(struct kernel *k, struct body *b, struct fuzz_input *in)
{
	uint32_t n = fuzz_byte(in) % 8;

	put_4(b, n);
	put_4(b, 0);
	for (uint32_t i = 0; i < n; i++) {
		struct fuse_forget_one one = {.nodeid = node(k, in), .nlookup = number(in)};

		put(b, &one, sizeof(one));
	}
}

static void build(struct kernel *k, struct body *b, const char *form, struct fuzz_input *in)
{
	uint64_t payload = strchr(form, 'b') ? number(in) % (PAYLOAD_MAX + 1) : 0;
	uint64_t n;

	b->len = 0;
	for (; *form; form++) {
		switch (*form) {
		case '8':
		case 'N':
			n = *form == '8' ? number(in) : node(k, in);
			put(b, &n, sizeof(n));
			break;
		case '4':
			put_4(b, number(in));
			break;
		case 'z':
			put_4(b, payload);
			break;
		case 'n':
			put_name(b, in);
			break;
		case 't':
			put_target(b, in);
			break;
		case 'b':
			put_text(b, (unsigned char)fuzz_byte(in), payload);
			break;
		case 'F':
			put_forgets(k, b, in);
			break;
		default:
			put_4(b, 0);
		}
	}
}

/* libfuse believes the lengths in these; interrupts are counted in kernel_interrupt(). */
static bool believes(uint32_t opcode)
{
	return opcode == FUSE_WRITE || opcode == FUSE_SETXATTR || opcode == FUSE_BATCH_FORGET ||
	       opcode == FUSE_INTERRUPT || opcode == FUSE_NOTIFY_REPLY || opcode == FUSE_IOCTL;
}

static void ask_raw(struct kernel *k, struct body *b, struct fuzz_input *in)
{
	uint32_t opcode = fuzz_byte(in);
	uint64_t ino = node(k, in);
	size_t len = fuzz_byte(in) < in->left ? 64 : in->left;

	b->len = 0;
	len = len < in->left ? len : in->left;
	put(b, in->at, len);
	in->at += len;
	in->left -= len;
	put(b, "", 1);
	if (!believes(opcode))
		kernel_ask(k, opcode, ino, 0, b->bytes, b->len);
}

static int relieve(void *arg, int64_t until)
{
	return 0;
}

static void start(struct kernel *k, struct world *w, unsigned int flags)
{
	const struct fuse_ops_options options = {
		.posix = flags & WITH_POSIX,
		.xattr = flags & (WITH_POSIX | WITH_XATTR),
		.owner_caller = flags & WITH_CALLER,
		.relieve = relieve,
	};

	w->store->session.quota = (struct quota){.bytes = BYTES_MAX, .inodes = flags & WITH_QUOTA ? 8 : FILES_MAX};
	kernel_start(k, w, &options);
	if (!(flags & WITHOUT_INIT))
		kernel_init(k);
}

static void change_layers(struct world *w, bool take, unsigned int name)
{
	static const char *const labels[] = {"one", "two", "three", "@base"};
	const char *label = labels[name % ARRAY_LEN(labels)];
	struct snapshot_change change;
	int r = take ? snapshot_create(w->store, label, &w->place.log, &change)
	             : snapshot_reset(w->store, name & 4 ? NULL : label, &w->place.log, &change);

	if (r == 0)
		assert_int_equal(snapshot_clean_up(&w->store->session, &change), 0);
	else
		assert_true(r == -EEXIST || r == -ENOENT || r == -EINVAL);
}

static void again(struct kernel *k, struct world *w, unsigned int flags, bool crash)
{
	kernel_stop(k);
	fuzz_expect_sound(w, crash);
	place_forget_lines(&w->place);
	world_open(w);
	start(k, w, flags);
}

static void do_next(struct kernel *k, struct world *w, unsigned int flags, struct fuzz_input *in)
{
	static struct body b;
	unsigned int kind = fuzz_byte(in);
	const struct form *form = &forms[kind % ARRAY_LEN(forms)];
	uint64_t ino;

	switch (kind) {
	case SNAPSHOT:
	case RESET:
		change_layers(w, kind == SNAPSHOT, fuzz_byte(in));
		return;
	case AGAIN:
		again(k, w, flags, fuzz_byte(in) & 1);
		return;
	case RAW:
		ask_raw(k, &b, in);
		return;
	case INTERRUPT:
		kind = fuzz_byte(in);
		kernel_interrupt(k, kind & 1, kind & 2);
		return;
	default:
		ino = node(k, in);
		build(k, &b, form->form, in);
		kernel_ask(k, form->opcode, ino, kind & 64 ? 1000 : 0, b.bytes, b.len);
	}
}

size_t fuzz_mend(unsigned char *bytes, size_t len)
{
	return len;
}

void fuzz_one(const unsigned char *bytes, size_t len)
{
	static struct kernel k;
	struct world *w = fuzz_begin();
	struct fuzz_input in = {bytes, len};
	unsigned int flags = fuzz_byte(&in);

	world_open(w);
	start(&k, w, flags);
	for (unsigned int i = 0; i < REQUESTS_MAX && in.left > 0; i++)
		do_next(&k, w, flags, &in);
	kernel_stop(&k);
	fuzz_expect_sound(w, flags & WITH_CRASH);
	fuzz_end(w);
}

/* Every kind of request once, on a few inodes, with numbers that differ. */
size_t fuzz_seed(unsigned int nr, unsigned char bytes[FUZZ_INPUT_MAX])
{
	size_t len = 0;

	if (nr >= 8)
		return 0;
	bytes[len++] = (unsigned char)(nr * 7);
	for (unsigned int i = 0; i < 10; i++) { /* what the base has */
		bytes[len++] = 0;
		bytes[len++] = (unsigned char)(i < 2 ? i : 0);
		bytes[len++] = (unsigned char)i;
	}
	for (unsigned int kind = 0; kind < ARRAY_LEN(forms); kind++) {
		if (kind % 4 == nr % 4) {
			bytes[len++] = INTERRUPT;
			bytes[len++] = (unsigned char)(kind / 4);
		}
		bytes[len++] = (unsigned char)((kind * (2 * nr + 1)) % ARRAY_LEN(forms));
		for (unsigned int i = 0; i < 10; i++)
			bytes[len++] = (unsigned char)((kind + i * nr) % 16);
	}
	bytes[len++] = AGAIN;
	bytes[len++] = (unsigned char)nr;
	return len;
}
