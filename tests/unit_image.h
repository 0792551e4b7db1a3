/*
 * unit_image: a session's files as a process that died left them, to be put back whole or in part.
 * Invariant: an image is what take found; put makes the session exactly that.
 * Called by the tests of what a power cut leaves.
 */
#pragma once

#include "unit_world.h"

enum { IMAGE_FILES_MAX = 32 };

/* The regular files of a session, in memory. */
struct image {
	struct {
		char path[64];
		unsigned char *bytes;
		size_t len;
	} files[IMAGE_FILES_MAX];
	unsigned int n;
};

struct crashed {
	struct world w;
	struct image image;
};

/* For cmocka: a world in *state with such a base, see world_make(), and its end. */
int image_start(void **state, void (*fill)(int basefd));
int image_end(void **state);

/* The process dies; what it wrote is the image. */
void image_take(struct crashed *c);
void image_forget(struct image *image);

/* The session as the image has it, after a boot of the host or before. */
void image_put(struct crashed *c, bool booted);

/* One file again, its first len bytes. */
void image_part(struct crashed *c, const char *path, size_t len);
size_t image_length(const struct crashed *c, const char *path);

/* The session's files; the first answer is a descriptor of its directory, the caller's. */
int image_session_fd(struct crashed *c);
void image_remove(struct crashed *c, const char *path);
bool image_has(struct crashed *c, const char *path);

/* An empty file in the tree. */
void image_make(struct crashed *c, const char *path);

/* So many bytes of one letter into a file of the tree. */
void image_write(struct crashed *c, const char *path, char byte, size_t len, uint64_t offset);

/* Where its content is in the session, if it is in the top layer. */
void image_content_path(struct crashed *c, const char *path, char out[64]);

/* Opens it once, and again: the second time there is nothing left to mend. */
void image_open_after_boot(struct crashed *c, const char *when);
