/*
 * index_build: owns a tree of nodes and names, and turns it into index bytes.
 * Invariant: every node but the root has at least one name, every name stands in the map and in its parent's list.
 * Called by import and scan.
 */
#include "index_build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checksum.h"
#include "cleanup.h"
#include "format.h"
#include "io.h"
#include "map.h"
#include "xattr_set.h"

struct name {
	struct map_node node; /* hash: parent and bytes */
	struct build_item *parent, *item;
	struct name *next, **back; /* in the parent's list */
	uint16_t len;
	char bytes[];
};

/* What a build_node really is. */
struct build_item {
	struct build_node node; /* first: the two pointers are one */
	struct name *children;  /* directories */
	uint32_t n_children, n_subdirs;
	uint32_t n_names;
	uint32_t ino; /* 0 until numbered */
	uint32_t entry;
	uint32_t first; /* directory: entry; symlink: offset of the target */
	char *target;
	unsigned char *xattrs;
	size_t target_len, xattrs_len;
	struct build_item *next_all, **back_all; /* all items of the build */
};

struct build {
	unsigned int flags;
	struct build_item *root;
	struct build_item *all;
	struct map names;
	uint64_t n_items;
};

static struct build_item *item_of(struct build_node *node)
{
	return (struct build_item *)node;
}

static int item_new(struct build *b, uint32_t mode, struct build_item **out)
{
	struct build_item *item = calloc(1, sizeof(*item));

	if (!item)
		return -ENOMEM;
	item->node.mode = mode;
	item->next_all = b->all;
	item->back_all = &b->all;
	if (b->all)
		b->all->back_all = &item->next_all;
	b->all = item;
	b->n_items++;
	*out = item;
	return 0;
}

static void item_free(struct build *b, struct build_item *item)
{
	*item->back_all = item->next_all;
	if (item->next_all)
		item->next_all->back_all = item->back_all;
	b->n_items--;
	free(item->target);
	free(item->xattrs);
	free(item);
}

int build_new(unsigned int flags, struct build **out)
{
	struct build *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->flags = flags;
	r = item_new(b, S_IFDIR | 0755, &b->root);
	if (r < 0) {
		free(b);
		return r;
	}
	*out = b;
	return 0;
}

static void free_name(struct map_node *node, void *arg)
{
	free(node);
}

void build_free(struct build *b)
{
	if (!b)
		return;
	map_each(&b->names, free_name, NULL);
	map_fini(&b->names);
	while (b->all)
		item_free(b, b->all);
	free(b);
}

struct build_node *build_root(struct build *b)
{
	return &b->root->node;
}

uint64_t build_n_names(const struct build *b)
{
	return b->names.n;
}

static uint64_t name_hash(const struct build_item *parent, const char *name, size_t len)
{
	return checksum64(name, len, (uint64_t)(uintptr_t)parent);
}

static struct name *find_name(const struct build *b, const struct build_item *parent, const char *name, size_t len)
{
	struct map_node *node = map_first(&b->names, name_hash(parent, name, len));

	for (; node; node = map_next(node)) {
		struct name *found = (struct name *)node;

		if (found->parent == parent && found->len == len && memcmp(found->bytes, name, len) == 0)
			return found;
	}
	return NULL;
}

int build_find(const struct build *b, const struct build_node *parent, const char *name, size_t len,
               struct build_node **out)
{
	struct name *found = find_name(b, (const struct build_item *)parent, name, len);

	if (!found)
		return -ENOENT;
	*out = &found->item->node;
	return 0;
}

static int check_name(const struct build *b, const struct build_item *parent, const char *name, size_t len)
{
	if (len > FORMAT_NAME_MAX)
		return -ENAMETOOLONG;
	if (len == 0 || memchr(name, '/', len) || memchr(name, '\0', len) || (len == 1 && name[0] == '.') ||
	    (len == 2 && name[0] == '.' && name[1] == '.'))
		return -EINVAL;
	return find_name(b, parent, name, len) ? -EEXIST : 0;
}

static int add_name(struct build *b, struct build_item *parent, const char *bytes, size_t len, struct build_item *item)
{
	struct name *name;
	int r = map_reserve(&b->names, 1);

	if (r < 0)
		return r;
	name = malloc(sizeof(*name) + len);
	if (!name)
		return -ENOMEM;
	name->parent = parent;
	name->item = item;
	name->len = (uint16_t)len;
	memcpy(name->bytes, bytes, len);
	name->next = parent->children;
	name->back = &parent->children;
	if (name->next)
		name->next->back = &name->next;
	parent->children = name;
	parent->n_children++;
	if (S_ISDIR(item->node.mode))
		parent->n_subdirs++;
	item->n_names++;
	map_add(&b->names, &name->node, name_hash(parent, bytes, len));
	return 0;
}

int build_add(struct build *b, struct build_node *parent, const char *name, size_t len, uint32_t mode,
              struct build_node **out)
{
	struct build_item *item;
	int r = check_name(b, item_of(parent), name, len);

	if (r < 0)
		return r;
	r = item_new(b, mode, &item);
	if (r < 0)
		return r;
	r = add_name(b, item_of(parent), name, len, item);
	if (r < 0) {
		item_free(b, item);
		return r;
	}
	*out = &item->node;
	return 0;
}

int build_link(struct build *b, struct build_node *parent, const char *name, size_t len, struct build_node *node)
{
	int r = check_name(b, item_of(parent), name, len);

	if (r < 0)
		return r;
	if (S_ISDIR(node->mode))
		return -EPERM;
	return add_name(b, item_of(parent), name, len, item_of(node));
}

int build_unlink(struct build *b, struct build_node *parent, const char *name, size_t len)
{
	struct name *found = find_name(b, item_of(parent), name, len);
	struct build_item *item;

	if (!found)
		return -ENOENT;
	item = found->item;
	if (item->children)
		return -ENOTEMPTY;
	*found->back = found->next;
	if (found->next)
		found->next->back = found->back;
	found->parent->n_children--;
	if (S_ISDIR(item->node.mode))
		found->parent->n_subdirs--;
	map_remove(&b->names, &found->node);
	free(found);
	if (--item->n_names == 0)
		item_free(b, item);
	return 0;
}

int build_any_name(const struct build_node *node, const char **name_out, size_t *len_out)
{
	const struct name *name = ((const struct build_item *)node)->children;

	if (!name)
		return -ENOENT;
	*name_out = name->bytes;
	*len_out = name->len;
	return 0;
}

unsigned int build_names_of(const struct build_node *node)
{
	return ((const struct build_item *)node)->n_names;
}

int build_set_target(struct build_node *node, const char *target, size_t len)
{
	struct build_item *item = item_of(node);
	char *copy;

	if (len > FORMAT_TARGET_MAX)
		return -ENAMETOOLONG;
	copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, target, len);
	free(item->target);
	item->target = copy;
	item->target_len = len;
	node->size = len;
	return 0;
}

int build_set_xattrs(struct build_node *node, const unsigned char *bytes, size_t len)
{
	struct build_item *item = item_of(node);
	unsigned char *copy = NULL;

	if (len > 0) {
		copy = malloc(len);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, bytes, len);
	}
	free(item->xattrs);
	item->xattrs = copy;
	item->xattrs_len = len;
	return 0;
}

/* Bytes that grow. */
struct buffer {
	unsigned char *bytes;
	size_t len, cap;
};

static int buffer_add(struct buffer *buf, const void *bytes, size_t len)
{
	if (len > buf->cap - buf->len) {
		size_t cap = buf->cap ? buf->cap * 2 : 65536;
		unsigned char *grown;

		while (cap - buf->len < len)
			cap *= 2;
		grown = realloc(buf->bytes, cap);
		if (!grown)
			return -ENOMEM;
		buf->bytes = grown;
		buf->cap = cap;
	}
	if (len > 0)
		memcpy(buf->bytes + buf->len, bytes, len);
	buf->len += len;
	return buf->len > UINT32_MAX && bytes ? -EOVERFLOW : 0;
}

/* The numbered tree: items in the order of their numbers, and the sections so far. */
struct plan {
	struct build *build;
	struct build_item **items;
	uint32_t n_items;
	struct name **sorted; /* room for the largest directory */
	size_t sorted_cap;
	struct buffer section[INDEX_SECTIONS];
};

static int by_name(const void *a, const void *b)
{
	const struct name *x = *(const struct name *const *)a;
	const struct name *y = *(const struct name *const *)b;
	int order = memcmp(x->bytes, y->bytes, x->len < y->len ? x->len : y->len);

	return order ? order : (x->len > y->len) - (x->len < y->len);
}

static int sort_children(struct plan *plan, const struct build_item *dir)
{
	size_t n = 0;

	if (dir->n_children > plan->sorted_cap) {
		struct name **grown = realloc(plan->sorted, dir->n_children * sizeof(struct name *));

		if (!grown)
			return -ENOMEM;
		plan->sorted = grown;
		plan->sorted_cap = dir->n_children;
	}
	for (struct name *name = dir->children; name; name = name->next)
		plan->sorted[n++] = name;
	if (n > 0)
		qsort(plan->sorted, n, sizeof(struct name *), by_name);
	return 0;
}

static uint32_t entries_so_far(const struct plan *plan)
{
	return (uint32_t)(plan->section[INDEX_SECTION_ENTRIES].len / sizeof(struct disk_entry));
}

static int add_entry(struct plan *plan, const struct build_item *dir, const struct name *name)
{
	struct buffer *names = &plan->section[INDEX_SECTION_NAMES];
	struct disk_entry entry = {
		.parent = le32(dir->ino),
		.name = le32((uint32_t)names->len),
		.name_len = le16(name->len),
	};
	struct build_item *item = name->item;
	int r;

	if (item->ino == 0) {
		plan->items[plan->n_items++] = item;
		item->ino = plan->n_items;
		item->entry = entries_so_far(plan);
	}
	entry.ino = le32(item->ino);
	r = buffer_add(names, name->bytes, name->len);
	return r < 0 ? r : buffer_add(&plan->section[INDEX_SECTION_ENTRIES], &entry, sizeof(entry));
}

/* Gives numbers breadth first and writes the entries in passing. */
static int number(struct plan *plan)
{
	struct build_item *root = plan->build->root;

	plan->items[plan->n_items++] = root;
	root->ino = plan->n_items;
	root->entry = UINT32_MAX;
	for (uint32_t i = 0; i < plan->n_items; i++) {
		struct build_item *dir = plan->items[i];
		int r;

		if (!S_ISDIR(dir->node.mode))
			continue;
		r = sort_children(plan, dir);
		if (r < 0)
			return r;
		dir->first = entries_so_far(plan);
		for (uint32_t c = 0; c < dir->n_children; c++) {
			r = add_entry(plan, dir, plan->sorted[c]);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int add_row(struct plan *plan, struct build_item *item)
{
	const struct build_node *node = &item->node;
	struct buffer *targets = &plan->section[INDEX_SECTION_TARGETS];
	struct buffer *xattrs = &plan->section[INDEX_SECTION_XATTRS];
	bool is_dir = S_ISDIR(node->mode);
	struct disk_inode row = {
		.mode = le32(node->mode),
		.uid = le32(node->uid),
		.gid = le32(node->gid),
		.nlink = le32(is_dir ? 2 + item->n_subdirs : item->n_names),
		.rdev = le64(node->rdev),
		.size = le64(node->size),
		.blocks = le64(node->blocks),
		.mtime = disk_time(node->mtime),
		.ctime = disk_time(node->ctime),
		.stamp = le64(node->stamp),
		.content = le64(node->checksum),
		.entry = le32(item->entry),
		.first = le32(is_dir ? item->first : 0),
		.count = le32(is_dir ? item->n_children : 0),
		.xattrs = le32((uint32_t)xattrs->len),
		.xattrs_len = le32((uint32_t)item->xattrs_len),
	};
	int r;

	if (S_ISLNK(node->mode)) {
		row.first = le32((uint32_t)targets->len);
		row.count = le32((uint32_t)item->target_len);
	}
	r = buffer_add(targets, item->target, item->target_len);
	if (r == 0)
		r = buffer_add(xattrs, item->xattrs, item->xattrs_len);
	return r < 0 ? r : buffer_add(&plan->section[INDEX_SECTION_INODES], &row, sizeof(row));
}

static int write_sections(struct plan *plan, int fd)
{
	struct disk_index_header header = {.version = le32(FORMAT_INDEX_VERSION), .flags = le32(plan->build->flags)};
	uint64_t offset = sizeof(header);

	memcpy(header.magic, FORMAT_INDEX_MAGIC, sizeof(header.magic));
	for (unsigned int s = 0; s < INDEX_SECTIONS; s++) {
		const struct buffer *buf = &plan->section[s];
		int r;

		header.sections[s].len = le64(buf->len);
		header.sections[s].checksum = le64(checksum64(buf->len ? buf->bytes : (const void *)"", buf->len, s));
		r = io_write_all(fd, buf->bytes, buf->len, offset);
		if (r < 0)
			return r;
		offset += buf->len;
	}
	header.checksum = le64(checksum64(&header, offsetof(struct disk_index_header, checksum), 0));
	return io_write_all(fd, &header, sizeof(header), 0);
}

int build_write(struct build *b, int fd)
{
	struct plan plan = {.build = b};
	int r = 0;

	if (b->n_items >= UINT32_MAX)
		return -EOVERFLOW;
	plan.items = calloc(b->n_items, sizeof(struct build_item *));
	if (!plan.items)
		r = -ENOMEM;
	if (r == 0)
		r = number(&plan);
	for (uint32_t i = 0; r == 0 && i < plan.n_items; i++)
		r = add_row(&plan, plan.items[i]);
	if (r == 0)
		r = write_sections(&plan, fd);
	for (unsigned int s = 0; s < INDEX_SECTIONS; s++)
		free(plan.section[s].bytes);
	free(plan.sorted);
	free(plan.items);
	return r;
}
