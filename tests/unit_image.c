/*
 * unit_image: keeps the regular files of a session in memory.
 * Invariant: nothing of the session stays open while its files are taken or put back.
 * Called by the tests of what a power cut leaves.
 */
#include "unit_image.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "unit.h"
#include "unit_dump.h"
#include "unit_op.h"

enum { WRITE_MAX = 4 * WORLD_COPY_UNIT };

static struct crashed *taking; /* nftw(3) passes nothing on */

static int take_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	struct image *image = &taking->image;
	const char *below = path + strlen(taking->w.session) + 1;

	if (kind != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	assert_true(image->n < IMAGE_FILES_MAX && strlen(below) < sizeof(image->files[0].path));
	strcpy(image->files[image->n].path, below);
	image->files[image->n].bytes = place_get(AT_FDCWD, path, &image->files[image->n].len);
	image->n++;
	return 0;
}

void image_forget(struct image *image)
{
	while (image->n > 0)
		free(image->files[--image->n].bytes);
}

int image_start(void **state, void (*fill)(int basefd))
{
	struct crashed *c = calloc(1, sizeof(*c));

	world_make(&c->w, fill);
	*state = c;
	return 0;
}

int image_end(void **state)
{
	struct crashed *c = *state;

	image_forget(&c->image);
	world_fini(&c->w);
	free(c);
	return 0;
}

void image_take(struct crashed *c)
{
	world_crash(&c->w);
	image_forget(&c->image);
	taking = c;
	assert_int_equal(nftw(c->w.session, take_one, 16, FTW_PHYS), 0);
}

int image_session_fd(struct crashed *c)
{
	return openat(c->w.place.fd, "session", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

void image_put(struct crashed *c, bool booted)
{
	int fd, layers;

	world_crash(&c->w);
	place_forget_lines(&c->w.place);
	assert_int_equal(io_remove_tree(c->w.place.fd, "session"), 0);
	assert_int_equal(mkdirat(c->w.place.fd, "session", 0700), 0);
	fd = image_session_fd(c);
	assert_int_equal(mkdirat(fd, "rootfs", 0700), 0);
	layers = io_make_dir(fd, "layers", 0700);
	for (unsigned int i = 0; i < c->image.n; i++) {
		char dir[64];
		unsigned int layer;

		if (sscanf(c->image.files[i].path, "layers/%u/", &layer) == 1) {
			snprintf(dir, sizeof(dir), "%u", layer);
			close(io_make_dir(layers, dir, 0700));
			snprintf(dir, sizeof(dir), "%u/content", layer);
			close(io_make_dir(layers, dir, 0700));
		}
		place_put(fd, c->image.files[i].path, c->image.files[i].bytes, c->image.files[i].len);
	}
	if (booted)
		assert_int_equal(symlinkat("the boot before", fd, "running"), 0);
	close(layers);
	close(fd);
}

void image_part(struct crashed *c, const char *path, size_t len)
{
	int fd = image_session_fd(c);

	for (unsigned int i = 0; i < c->image.n; i++) {
		if (strcmp(c->image.files[i].path, path) == 0) {
			assert_true(len <= c->image.files[i].len);
			place_put(fd, path, c->image.files[i].bytes, len);
			close(fd);
			return;
		}
	}
	fail_msg("%s is not in the image", path);
}

void image_remove(struct crashed *c, const char *path)
{
	int fd = image_session_fd(c);

	assert_int_equal(unlinkat(fd, path, 0), 0);
	close(fd);
}

bool image_has(struct crashed *c, const char *path)
{
	int fd = image_session_fd(c);
	bool has = place_has(fd, path);

	close(fd);
	return has;
}

size_t image_length(const struct crashed *c, const char *path)
{
	for (unsigned int i = 0; i < c->image.n; i++) {
		if (strcmp(c->image.files[i].path, path) == 0)
			return c->image.files[i].len;
	}
	fail_msg("%s is not in the image", path);
	return 0;
}

void image_open_after_boot(struct crashed *c, const char *when)
{
	char *first;

	if (world_try_open(&c->w) < 0)
		fail_msg("%s: the session does not open:\n%s", when, c->w.place.lines);
	if (c->w.place.n_errors)
		fail_msg("%s: %s", when, c->w.place.lines);
	assert_false(image_has(c, "running"));
	assert_false(image_has(c, "manifest.old"));
	first = dump_world(&c->w, DUMP_ALL);
	place_forget_lines(&c->w.place);
	world_reopen(&c->w);
	dump_expect_world(&c->w, DUMP_ALL, first, when);
	if (*c->w.place.lines)
		fail_msg("%s, opened again: %s", when, c->w.place.lines);
	free(first);
}

void image_make(struct crashed *c, const char *path)
{
	const struct op op = {OP_MKFILE, path, NULL, 0, 0, 0};

	expect_status(op_tree(&c->w, &op), 0, "making %s", path);
}

void image_write(struct crashed *c, const char *path, char byte, size_t len, uint64_t offset)
{
	static char bytes[WRITE_MAX];

	assert_true(len <= sizeof(bytes));
	memset(bytes, byte, len);
	expect_status(tree_write(&c->w.tree, world_ino(&c->w, path), bytes, len, offset), (long)len, "writing %s",
	              path);
}

void image_content_path(struct crashed *c, const char *path, char out[64])
{
	snprintf(out, 64, "layers/%u/content/%llu", stack_top(&c->w.store->session.stack)->id,
	         (unsigned long long)world_ino(&c->w, path));
}
