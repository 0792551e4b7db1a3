/*
 * recovery: decides which manifest holds, and mends the files of the top layer.
 * Invariant: what fsync or a finished snapshot promised is never given up: their bytes are there, so every check finds
 * them.
 * Called by store, when it opens a session.
 */
#include "recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "content.h"
#include "io.h"

static const char taken_back[] =
	"%s: the host went down before the last snapshot or reset was on disk: the session is what it was before";

int recovery_read_manifest(struct session *s, const char *label, bool look, const struct log *log)
{
	struct manifest old;
	int r;

	if (!manifest_has_old(s->dirfd))
		return manifest_read(s->dirfd, label, log, &s->manifest);
	r = manifest_read(s->dirfd, label, NULL, &s->manifest);
	if (r != -EUCLEAN && r != -ENOENT)
		return r < 0 ? manifest_read(s->dirfd, label, log, &s->manifest) : 0;
	if (manifest_read_old(s->dirfd, &old) < 0)
		return manifest_read(s->dirfd, label, log, &s->manifest);
	r = look ? 0 : manifest_take_old(s->dirfd);
	if (r < 0) {
		manifest_fini(&old);
		return log_errno(log, r, "%s", label);
	}
	log_warning(log, taken_back, s->label);
	s->manifest = old;
	return 0;
}

/* An inode whose content is in the layer but shorter than it says, or not all in the parts that it says. */
struct short_file {
	struct inode inode;
	const struct layer_part *part;
	uint64_t there; /* bytes */
	bool missing;
};

struct short_files {
	const struct session *session;
	const struct layer *layer;
	struct short_file *list;
	size_t n;
	int result;
};

/* 1 when a part of the file that the layer says it has is not on disk; 0 or -errno. */
static int is_torn(const struct session *s, const struct layer *l, const struct layer_inode *inode)
{
	cleanup_fd int fd = -1;

	if (!inode->part || !s->host_cut)
		return 0;
	fd = content_open(s->layersfd, l->id, inode->attr.ino, O_RDONLY);
	return fd < 0 ? fd : session_part_torn(inode, fd);
}

static void look_at(struct map_node *node, void *arg)
{
	const struct layer_inode *layer_inode = (const struct layer_inode *)node;
	const struct inode *inode = &layer_inode->attr;
	struct short_files *files = arg;
	struct short_file found = {.inode = *inode, .part = layer_inode->part};
	int r;

	if (files->result < 0 || !S_ISREG(inode->mode) || inode->nlink == 0 || inode->content_layer != files->layer->id)
		return;
	r = content_size(files->session->layersfd, files->layer->id, inode->ino, &found.there);
	found.missing = r == -ENOENT;
	if (r == 0 && found.there >= inode->size) {
		r = is_torn(files->session, files->layer, layer_inode);
		if (r == 0)
			return;
	}
	if (r < 0 && r != -ENOENT) {
		files->result = r;
		return;
	}
	if ((files->n & (files->n + 1)) == 0) {
		struct short_file *grown = reallocarray(files->list, files->n * 2 + 2, sizeof(*grown));

		if (!grown) {
			files->result = -ENOMEM;
			return;
		}
		files->list = grown;
	}
	files->list[files->n++] = found;
}

/* On the heap, also after a failure. */
static int find_short(const struct session *s, const struct layer *l, struct short_files *out)
{
	*out = (struct short_files){.session = s, .layer = l};
	layer_each_inode(l, look_at, out);
	return out->result;
}

/* 0 when this layer and those below hold what the manifest says, -EUCLEAN when not. */
static int check_layer(struct session *s, uint32_t id)
{
	struct short_files files;
	struct stack stack;
	int r = session_load(s, &s->manifest, id, NULL, &stack);

	if (r < 0)
		return r == -ENOENT ? -EUCLEAN : r;
	if (manifest_layer(&s->manifest, id)->sealed) {
		r = find_short(s, stack_top(&stack), &files);
		if (r == 0 && files.n > 0)
			r = -EUCLEAN;
		free(files.list);
	}
	session_unload(&stack, NULL);
	s->n_dirty = 0; /* loading for a look is no opening */
	return r;
}

static int check_new_layers(struct session *s, const struct manifest *old)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->manifest.n_layers; i++) {
		const struct manifest_layer *now = &s->manifest.layers[i];
		const struct manifest_layer *before = manifest_layer(old, now->id);

		if (!before || before->sealed != now->sealed)
			r = check_layer(s, now->id);
	}
	return r;
}

int recovery_choose(struct session *s, bool look)
{
	struct log loud = s->log;
	struct manifest old;
	int r;

	if (!manifest_has_old(s->dirfd) || manifest_read_old(s->dirfd, &old) < 0)
		return 0;
	s->log = (struct log){0};
	s->purpose = look ? SESSION_LOOK : SESSION_SERVE;
	r = check_new_layers(s, &old);
	s->log = loud;
	if (r == -EUCLEAN) {
		r = look ? 0 : manifest_take_old(s->dirfd);
		if (r == 0) {
			struct manifest lost = s->manifest;

			log_warning(&s->log, taken_back, s->label);
			s->manifest = old;
			old = lost;
		}
	}
	manifest_fini(&old);
	return r < 0 ? log_errno(&s->log, r, "%s", s->label) : 0;
}

/* The copy never came to the disk, so nothing that was written to it was promised: it is made again. */
static int copy_again(struct session *s, struct inode *inode, const struct inode *below)
{
	cleanup_fd int fd = content_create(s->layersfd, stack_top(&s->stack)->id, inode->ino);
	int src = fd < 0 ? fd : session_content(s, below);
	int r = src < 0 ? src : io_clone(src, fd, below->size);

	if (r < 0)
		return r;
	inode->size = below->size;
	inode->blocks = below->blocks;
	inode->mtime = below->mtime;
	return 0;
}

static int keep_what_is_there(struct session *s, struct inode *inode, const struct short_file *file)
{
	if (file->missing) {
		cleanup_fd int fd = content_create(s->layersfd, stack_top(&s->stack)->id, inode->ino);

		if (fd < 0)
			return fd;
	}
	inode->size = file->there;
	inode->blocks = (file->there + 511) / 512;
	return 0;
}

/* What is not there of the parts goes back to the bytes of below; what was behind them ends where it ends. */
static int mend_part(struct session *s, struct inode *inode, const struct short_file *file)
{
	const struct layer *top = stack_top(&s->stack);
	cleanup_fd int fd = file->missing ? content_create(s->layersfd, top->id, inode->ino)
	                                  : content_open(s->layersfd, top->id, inode->ino, O_RDWR);
	uint64_t below = file->part->below;
	uint64_t there = file->there > below ? file->there : below;
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	if (file->there < below && ftruncate(fd, (off_t)below) < 0)
		return -errno;
	r = session_mend_part(s, layer_inode(top, inode->ino), fd);
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0)
		return r;
	inode->size = inode->size < there ? inode->size : there;
	inode->blocks = (uint64_t)st.st_blocks;
	return 0;
}

static int mend(struct session *s, const struct short_file *file)
{
	struct stack below = stack_below(&s->stack);
	struct inode inode = file->inode, old;
	int r = stack_inode(&below, inode.ino, &old);

	if (r < 0 && r != -ESTALE)
		return r;
	if (file->part)
		r = mend_part(s, &inode, file);
	else if (r == 0 && S_ISREG(old.mode) && old.content_layer != CONTENT_NONE && file->there < inode.floor)
		r = copy_again(s, &inode, &old);
	else
		r = keep_what_is_there(s, &inode, file);
	if (r < 0)
		return r;
	record_start(&s->record);
	record_inode(&s->record, &inode, INODE_CLEAN | INODE_SIZE | INODE_BLOCKS | INODE_MTIME | INODE_CTIME);
	return session_apply(s);
}

static void punch(struct map_node *node, void *arg)
{
	const struct layer_inode *inode = (const struct layer_inode *)node;
	struct session *s = arg;
	cleanup_fd int fd = -1;

	if (!inode->attr.below || inode->attr.nlink == 0 || !layer_has_content(stack_top(&s->stack), &inode->attr))
		return;
	fd = content_open(s->layersfd, stack_top(&s->stack)->id, inode->attr.ino, O_RDWR);
	if (fd >= 0)
		session_punch_away(s, inode->attr.ino, fd, 0, inode->attr.below);
}

int recovery_sweep(struct session *s)
{
	const struct layer *top = stack_top(&s->stack);
	char path[32];
	cleanup_dir DIR *dir = NULL;
	struct dirent *entry;
	int r;

	snprintf(path, sizeof(path), "%u/content", top->id);
	r = io_open_dir(s->layersfd, path, &dir);
	if (r < 0)
		return r;
	layer_each_inode(top, punch, s);
	while ((entry = readdir(dir))) {
		char *end;
		unsigned long long ino = strtoull(entry->d_name, &end, 10);
		const struct layer_inode *inode = layer_inode(top, ino);

		if (*end != '\0' || end == entry->d_name || (inode && inode->attr.content_layer == top->id))
			continue;
		content_remove(s->layersfd, top->id, ino);
	}
	return 0;
}

int recovery_mend(struct session *s)
{
	struct short_files files;
	int r = find_short(s, stack_top(&s->stack), &files);

	for (size_t i = 0; r == 0 && i < files.n; i++)
		r = mend(s, &files.list[i]);
	if (r < 0)
		log_errno(&s->log, r, "%s: the host went down; mount the session with its base, which mends it",
		          s->label);
	else if (files.n > 0)
		log_warning(&s->log,
		            "%s: the host went down before %zu files were on disk: they lost their last writes",
		            s->label, files.n);
	free(files.list);
	return r;
}
