/*
 * import_remove: takes subtrees out of the base while it is made.
 * Invariant: host and index lose the same; depth costs no stack.
 * Called by import_layer.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "import_target_own.h"
#include "io.h"

bool import_target_has_dir(const struct import_target *t, const struct import_member *m)
{
	struct build_node *node;

	return import_target_find(t, m->path, m->len, &node) == 0 && S_ISDIR(node->mode);
}

static int unlink_one(struct import_target *t, struct build_node *parent, const char *name, size_t len,
                      const struct build_node *node)
{
	if (S_ISREG(node->mode) && build_names_of(node) == 1)
		t->bytes -= node->size;
	return build_unlink(t->build, parent, name, len);
}

/* Empties a directory of the index: goes down as long as there are directories with names, and up again. */
static int empty(struct import_target *t, struct build_node *dir)
{
	cleanup_free struct build_node **above = NULL;
	size_t depth = 0, cap = 0;
	int r = 0;

	while (r == 0) {
		struct build_node *node;
		const char *name;
		size_t len;

		if (build_any_name(dir, &name, &len) < 0) {
			if (depth == 0)
				return 0;
			dir = above[--depth]; /* its first name is the directory that is empty now */
			continue;
		}
		r = build_find(t->build, dir, name, len, &node);
		if (r == 0 && S_ISDIR(node->mode) && build_any_name(node, &(const char *){NULL}, &(size_t){0}) == 0) {
			if (depth == cap) {
				struct build_node **grown =
					reallocarray(above, 2 * cap + 16, sizeof(struct build_node *));

				if (!grown)
					return -ENOMEM;
				above = grown;
				cap = 2 * cap + 16;
			}
			above[depth++] = dir;
			dir = node;
		} else if (r == 0) {
			r = unlink_one(t, dir, name, len, node);
		}
	}
	return r;
}

/* Everything in a directory of the host, but umlfs's own folder, which no layer can name. */
static int empty_host(const struct import_target *t, const char *path, const struct build_node *dir)
{
	cleanup_fd int fd = io_open_beneath(t->root, *path ? path : ".", O_RDONLY | O_DIRECTORY, 0);
	cleanup_dir DIR *stream = NULL;
	struct dirent *entry;
	int r = fd < 0 ? fd : io_open_dir(fd, ".", &stream);

	while (r == 0 && (errno = 0, entry = readdir(stream))) {
		struct build_node *node;

		if (build_find(t->build, dir, entry->d_name, strlen(entry->d_name), &node) == 0)
			r = io_remove_tree(fd, entry->d_name);
	}
	return r < 0 ? r : -errno;
}

static int remove_at(struct import_target *t, const char *path, size_t len, bool below)
{
	const char *slash = memrchr(path, '/', len);
	size_t parent_len = slash ? (size_t)(slash - path) : 0;
	const char *name = slash ? slash + 1 : path;
	size_t name_len = len - (size_t)(name - path);
	cleanup_free char *copy = strndup(path, len);
	struct build_node *parent = NULL, *node = NULL;
	cleanup_fd int fd = -1;
	int r = copy ? import_target_find(t, path, len, &node) : -ENOMEM;

	if (r < 0 || (below && !S_ISDIR(node->mode)))
		return r == -ENOENT ? 0 : r;
	import_target_leave(t);
	if (S_ISDIR(node->mode))
		r = empty_host(t, copy, node);
	if (r == 0 && S_ISDIR(node->mode))
		r = empty(t, node);
	if (r < 0 || below || len == 0)
		return r;
	r = import_target_find(t, path, parent_len, &parent);
	if (slash)
		copy[parent_len] = '\0';
	fd = io_open_beneath(t->root, slash ? copy : ".", O_RDONLY | O_DIRECTORY, 0);
	if (r == 0 && fd < 0)
		r = fd;
	if (r == 0)
		r = io_remove_tree(fd, copy + (name - path));
	return r < 0 ? r : unlink_one(t, parent, name, name_len, node);
}

int import_target_remove(struct import_target *t, const struct import_member *m, const char *path, size_t len,
                         bool below)
{
	int r = remove_at(t, path, len, below);

	return r < 0 ? import_report_errno(t->report, m->name, r) : 0;
}
