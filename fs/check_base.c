/*
 * check_base: compares a base's tree with its index, name by name.
 * Invariant: opens directories only, and nothing outside the base.
 * Called by check.
 */
#include "check_base.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "check_index.h"
#include "cleanup.h"
#include "format.h"
#include "io.h"

struct compare {
	const struct index *ix;
	int treefd;
	const char *label;
	const struct log *log;
	struct findings *findings;
};

/* A name in a directory of the index; dir is "." for the root. */
static char *place(const struct compare *c, const char *dir, const char *name, size_t len)
{
	bool in_root = strcmp(dir, ".") == 0;

	return findings_where("%s/%s%s%.*s", c->label, in_root ? "" : dir, in_root ? "" : "/", (int)len, name);
}

static const char *kind_word(mode_t mode)
{
	return S_ISREG(mode)   ? "regular file"
	       : S_ISDIR(mode) ? "directory"
	       : S_ISLNK(mode) ? "symbolic link"
	                       : "special file";
}

/* A name that the index has, against the host's. */
static int compare_name(const struct compare *c, int dirfd, const char *dir, const struct index_entry *e)
{
	char name[FORMAT_NAME_MAX + 1];
	struct index_content content;
	struct inode inode;
	struct stat st;
	uint64_t stamp;
	int r = index_inode(c->ix, e->ino, &inode);

	if (r == 0)
		r = index_content(c->ix, e->ino, &content);
	if (r < 0 || e->name_len > FORMAT_NAME_MAX || !(S_ISREG(inode.mode) || inode_is_dir(&inode)))
		return r;
	memcpy(name, e->name, e->name_len);
	name[e->name_len] = '\0';
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0) {
		if (errno != ENOENT)
			return log_errno(c->log, -errno, "%s/%s/%s", c->label, dir, name);
		findings_add(c->findings, "base", place(c, dir, name, e->name_len), "missing: the index has it");
		return 0;
	}
	stamp = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
	if ((st.st_mode & S_IFMT) != (inode.mode & S_IFMT))
		findings_add(c->findings, "base", place(c, dir, name, e->name_len), "is a %s, in the index a %s",
		             kind_word(st.st_mode), kind_word(inode.mode));
	else if (S_ISREG(st.st_mode) && (uint64_t)st.st_size != content.size)
		findings_add(c->findings, "base", place(c, dir, name, e->name_len),
		             "has %lld bytes, in the index %llu: reading it gives an error", (long long)st.st_size,
		             (unsigned long long)content.size);
	else if (S_ISREG(st.st_mode) && stamp != content.stamp)
		findings_add(c->findings, "base", place(c, dir, name, e->name_len),
		             "was modified since it was indexed: reading it gives an error");
	return 0;
}

/* A name that the host has. */
static void compare_found(const struct compare *c, const char *dir, uint64_t dir_ino, const char *name)
{
	struct inode inode;
	uint64_t ino;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
	    (dir_ino == FORMAT_ROOT_INO && strcmp(name, FORMAT_OWN_DIR) == 0))
		return;
	if (index_lookup(c->ix, dir_ino, name, strlen(name), &ino) < 0)
		findings_add(c->findings, "base", place(c, dir, name, strlen(name)),
		             "is not in the index: nothing shows it");
	else if (index_inode(c->ix, ino, &inode) == 0 && !S_ISREG(inode.mode) && !inode_is_dir(&inode))
		findings_add(c->findings, "base", place(c, dir, name, strlen(name)),
		             "a %s is in the index alone, yet something stands there", kind_word(inode.mode));
}

static int read_names(const struct compare *c, int fd, const char *dir, uint64_t ino)
{
	cleanup_dir DIR *stream = NULL;
	struct dirent *entry;
	int r = io_open_dir(fd, ".", &stream);

	if (r < 0)
		return log_errno(c->log, r, "%s/%s", c->label, dir);
	while ((errno = 0, entry = readdir(stream)))
		compare_found(c, dir, ino, entry->d_name);
	return errno ? log_errno(c->log, -errno, "%s/%s", c->label, dir) : 0;
}

static int compare_dir(const struct compare *c, uint64_t ino)
{
	cleanup_free char *dir = NULL;
	cleanup_fd int fd = -1;
	uint64_t first, count;
	int r = index_path(c->ix, ino, &dir);

	if (r == 0)
		r = index_dir(c->ix, ino, &first, &count);
	if (r < 0)
		return r;
	fd = io_open_beneath(c->treefd, dir, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return 0; /* its own name was told, or that of one above */
	if (fd < 0)
		return log_errno(c->log, fd, "%s/%s", c->label, dir);
	for (uint64_t nr = first; r == 0 && nr < first + count; nr++) {
		struct index_entry entry;

		r = index_entry(c->ix, nr, &entry);
		if (r == 0)
			r = compare_name(c, fd, dir, &entry);
	}
	return r < 0 ? r : read_names(c, fd, dir, ino);
}

/* umlfs's own folder: the index and nothing else. */
static int compare_own(const struct compare *c)
{
	cleanup_dir DIR *stream = NULL;
	struct dirent *entry;
	int r = io_open_dir(c->treefd, FORMAT_OWN_DIR, &stream);

	if (r < 0)
		return log_errno(c->log, r, "%s/" FORMAT_OWN_DIR, c->label);
	while ((entry = readdir(stream))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    strcmp(entry->d_name, "index") != 0)
			findings_add(c->findings, "stray",
			             findings_where("%s/" FORMAT_OWN_DIR "/%s", c->label, entry->d_name),
			             "is not umlfs's: the folder holds the index alone");
	}
	return 0;
}

/* What index_open() says becomes a finding when it is damage. */
struct complaint {
	char *line;
};

static void keep_line(void *arg, enum log_level level, const char *line)
{
	struct complaint *complaint = arg;

	if (!complaint->line)
		complaint->line = strdup(line);
}

static int open_index(struct compare *c, const char *file, struct index **out)
{
	struct complaint complaint = {0};
	const struct log log = {.write = keep_line, .arg = &complaint};
	int r = index_open(c->treefd, FORMAT_OWN_DIR "/index", file, &log, out);
	size_t skip = strlen(file) + 2; /* and ": " */

	if (r == -ENOENT)
		findings_add(c->findings, "index", findings_where("%s", file), "missing: import the base again");
	else if (r == -EUCLEAN && complaint.line && strlen(complaint.line) > skip)
		findings_add(c->findings, "index", findings_where("%s", file), "%s", complaint.line + skip);
	else if (r < 0)
		log_error(c->log, r, "%s", complaint.line ? complaint.line : file);
	free(complaint.line);
	return r;
}

int check_base(int dirfd, const char *label, const struct log *log, struct findings *findings)
{
	struct compare c = {.treefd = dirfd, .label = label, .log = log, .findings = findings};
	cleanup_free char *file = findings_where("%s/" FORMAT_OWN_DIR "/index", label);
	struct index *index = NULL;
	size_t before = findings->n;
	struct inode inode;
	bool sound;
	int r = file ? open_index(&c, file, &index) : -ENOMEM;

	if (r == -ENOENT || r == -EUCLEAN)
		return 0;
	if (r == 0)
		r = check_index(index, file, findings);
	sound = findings->n == before;
	c.ix = index;
	if (r == 0)
		r = compare_own(&c);
	for (uint64_t ino = 1; r == 0 && sound && ino <= index_n_inodes(index); ino++) {
		if (index_inode(index, ino, &inode) == 0 && inode_is_dir(&inode))
			r = compare_dir(&c, ino);
	}
	index_free(index);
	return r;
}
