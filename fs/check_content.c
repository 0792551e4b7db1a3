/*
 * check_content: compares a layer's folder with its maps, both ways.
 * Invariant: reads no content file; sizes come from stat(2), holes from lseek(2).
 * Called by check_session.
 */
#include "check_content.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_table.h"
#include "cleanup.h"
#include "io.h"
#include "session.h"

static bool is_here(const struct check_content *c, const struct inode *inode)
{
	return S_ISREG(inode->mode) && inode->content_layer == c->layer->id;
}

/* A content file's number; 0 when this is no content file's name. */
static uint64_t number_of(const char *name)
{
	char canonical[24];
	uint64_t ino = strtoull(name, NULL, 10);

	snprintf(canonical, sizeof(canonical), "%" PRIu64, ino);
	return strcmp(canonical, name) == 0 ? ino : 0;
}

static struct found *tell(const struct check_content *c, uint64_t ino, const char *what)
{
	cleanup_free char *path = c->tree ? check_tree_path(c->tree, ino) : NULL;
	struct found *found = findings_add(c->findings, "content",
	                                   findings_where("%s/layers/%u/content/%" PRIu64, c->label, c->layer->id, ino),
	                                   "%s%s%s%s", what, path ? " (" : "", path ? path : "", path ? ")" : "");

	found->layer = c->layer->id;
	found->ino = ino;
	return found;
}

/* A file in part: what it has not is in the layer below, and what it has is no hole. */
static int compare_parts(const struct check_content *c, const struct layer_inode *inode, int dirfd, const char *name)
{
	const struct inode *attr = &inode->attr;
	cleanup_fd int fd = -1;
	struct inode below;
	int r;

	if (!inode->part || attr->nlink == 0)
		return 0;
	if (attr->below && (stack_inode_under(c->stack, c->layer->id, attr->ino, &below) < 0 || !S_ISREG(below.mode) ||
	                    below.content_layer == CONTENT_NONE || below.size < attr->below))
		tell(c, attr->ino,
		     "has only parts of its file, and no layer below has the others: reading those gives an error");
	if (!c->host_cut || c->listed->sealed)
		return 0;
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	r = fd < 0 ? -errno : session_part_torn(inode, fd);
	if (r > 0 || r == -ENXIO)
		tell(c, attr->ino,
		     "has holes where it has parts of its file: the host went down before they were on disk, and "
		     "mounting the session fills them from the layer below");
	return r < 0 && r != -ENXIO ? log_errno(c->log, r, "%s/layers/%u/content/%s", c->label, c->layer->id, name) : 0;
}

/* The file of an inode that has its bytes here. */
static void compare_size(const struct check_content *c, const struct inode *inode, const struct stat *st)
{
	struct found *found;

	if (inode->nlink == 0)
		return; /* whatever is left of it goes at the next mount */
	if ((uint64_t)st->st_size < inode->size)
		tell(c, inode->ino, "is shorter than its file: reading that gives an error");
	if ((uint64_t)st->st_size <= inode->size)
		return;
	found = tell(c, inode->ino, "is longer than its file: bytes behind the end, that nothing shows");
	if (!c->listed->sealed) {
		found_mend(found, MEND_CUT_CONTENT);
		found->number = inode->size;
	}
}

static int check_file(const struct check_content *c, int dirfd, const char *name)
{
	uint64_t ino = number_of(name);
	const struct layer_inode *inode = ino ? layer_inode(c->layer, ino) : NULL;
	struct stat st;

	if (ino == 0) {
		findings_add(c->findings, "stray",
		             findings_where("%s/layers/%u/content/%s", c->label, c->layer->id, name),
		             "is no content file: their names are numbers");
		return 0;
	}
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return log_errno(c->log, -errno, "%s/layers/%u/content/%s", c->label, c->layer->id, name);
	if (!S_ISREG(st.st_mode))
		tell(c, ino, "is no regular file");
	else if (!inode || inode->attr.content_layer != c->layer->id)
		found_mend(tell(c, ino, "no record names it: an interrupted operation left it"), MEND_REMOVE_CONTENT);
	else if (is_here(c, &inode->attr)) {
		compare_size(c, &inode->attr, &st);
		return compare_parts(c, inode, dirfd, name);
	}
	return 0;
}

/* What must have a content file. */
struct wanted {
	const struct check_content *check;
	uint64_t *list;
	size_t n;
	bool no_memory;
};

static void want(struct map_node *node, void *arg)
{
	const struct inode *inode = &((const struct layer_inode *)node)->attr;
	struct wanted *w = arg;

	if (inode->nlink > 0 && is_here(w->check, inode))
		w->list[w->n++] = inode->ino;
}

static int check_missing(const struct check_content *c, int dirfd)
{
	cleanup_free uint64_t *list = calloc(layer_n_inodes(c->layer) + 1, sizeof(*list));
	struct wanted w = {.check = c, .list = list};

	if (!list)
		return -ENOMEM;
	layer_each_inode(c->layer, want, &w);
	qsort(list, w.n, sizeof(*list), check_tree_by_number);
	for (size_t i = 0; i < w.n; i++) {
		char name[24];

		snprintf(name, sizeof(name), "%" PRIu64, list[i]);
		if (faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		if (errno != ENOENT)
			return log_errno(c->log, -errno, "%s/layers/%u/content/%s", c->label, c->layer->id, name);
		tell(c, list[i], "missing: the bytes of a file are lost");
	}
	return 0;
}

static int check_content_dir(const struct check_content *c, int layerfd)
{
	cleanup_dir DIR *dir = NULL;
	struct dirent *entry;
	int r = io_open_dir(layerfd, "content", &dir);

	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP) {
		findings_add(c->findings, "content", findings_where("%s/layers/%u/content", c->label, c->layer->id),
		             "missing: the bytes of all files that the layer wrote are lost");
		return 0;
	}
	if (r < 0)
		return log_errno(c->log, r, "%s/layers/%u/content", c->label, c->layer->id);
	while (r == 0 && (entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = check_file(c, dirfd(dir), entry->d_name);
	}
	return r < 0 ? r : check_missing(c, dirfd(dir));
}

/* What the layer's folder holds, and what a table is while it is written. */
static void check_name(const struct check_content *c, const char *name)
{
	static const char *const holds[] = {".", "..", "journal", "content", "table"};
	char leftover[32];

	for (size_t i = 0; i < sizeof(holds) / sizeof(holds[0]); i++) {
		if (strcmp(name, holds[i]) == 0)
			return;
	}
	snprintf(leftover, sizeof(leftover), "layers/%u/table.new", c->layer->id);
	if (strcmp(name, "table.new") == 0)
		findings_leftover(c->findings, c->label, leftover);
	else
		findings_add(c->findings, "stray", findings_where("%s/layers/%u/%s", c->label, c->layer->id, name),
		             "is not umlfs's: a layer holds a journal, content and perhaps a table");
}

static void check_names(const struct check_content *c, DIR *dir)
{
	struct dirent *entry;

	while ((entry = readdir(dir)))
		check_name(c, entry->d_name);
}

static void check_sealed_end(const struct check_content *c, int layerfd)
{
	struct found *found;
	struct stat st;

	if (!c->listed->sealed || fstatat(layerfd, "journal", &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (uint64_t)st.st_size <= c->listed->sealed)
		return;
	found = findings_add(c->findings, "journal", findings_where("%s/layers/%u/journal", c->label, c->layer->id),
	                     "goes on behind its sealed end at byte %" PRIu64 ": nothing shows that",
	                     c->listed->sealed);
	found_mend(found, MEND_CUT_JOURNAL);
	found->layer = c->layer->id;
	found->number = c->listed->sealed;
}

int check_content(const struct check_content *c)
{
	cleanup_dir DIR *dir = NULL;
	struct layer_table_key key = {.sealed = c->listed->sealed, .under = stack_numbers(c->stack, c->stack->n - 1)};
	char name[16];
	int r;

	snprintf(name, sizeof(name), "%u", c->layer->id);
	r = io_open_dir(c->layer->layersfd, name, &dir);
	if (r < 0)
		return log_errno(c->log, r, "%s/layers/%s", c->label, name);
	check_names(c, dir);
	check_sealed_end(c, dirfd(dir));
	if (c->listed->sealed)
		r = check_table(c->findings, c->label, c->layer, &key);
	if (r < 0)
		return log_errno(c->log, r, "%s/layers/%s/table", c->label, name);
	return check_content_dir(c, dirfd(dir));
}
