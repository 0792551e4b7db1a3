/*
 * import_file: owns the descriptor of the file being written.
 * Invariant: what the index will say of the content is what was written, and depends on the source alone.
 * Called by import_target.
 */
#include "import_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"

enum {
	BLOCK = 4096,
	SECTORS = BLOCK / 512,
	PRIVATE = 0600,
};

void import_file_init(struct import_file *file, int fd, struct build_node *node, struct checksum_content *sum)
{
	checksum_content_reset(sum);
	*file = (struct import_file){.fd = fd, .node = node, .sum = sum};
}

void import_file_fini(struct import_file *file)
{
	file->fd = close_fd(file->fd);
}

/*
 * Counts the 4 KiB blocks that hold bytes: the host's own count differs between file systems, and with how
 * far one of them has got with writing.
 */
static void count_blocks(struct import_file *file, size_t len, uint64_t offset)
{
	uint64_t first = offset / BLOCK;
	uint64_t behind = (offset + len - 1) / BLOCK + 1;

	if (first < file->next_block)
		first = file->next_block;
	file->n_blocks += behind - first;
	file->next_block = behind;
}

int import_file_write(struct import_file *file, const void *bytes, size_t len, uint64_t offset)
{
	int r;

	if (len == 0)
		return 0;
	if (offset < file->end || offset > (uint64_t)INT64_MAX - len)
		return -EUCLEAN;
	r = io_write_all(file->fd, bytes, len, offset);
	if (r < 0)
		return r;
	checksum_content_add(file->sum, bytes, len, offset);
	count_blocks(file, len, offset);
	file->end = offset + len;
	return 0;
}

/* Gives the host's file its time and mode, and the node what is told of the content. */
static int close_content(struct import_file *file, uint64_t size, uint64_t checksum)
{
	struct build_node *node = file->node;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, node->mtime};
	struct stat st;

	/* Best effort: that the stamp is the host's is what counts. */
	(void)futimens(file->fd, times);
	if (fstat(file->fd, &st) < 0)
		return -errno;
	/* A strange umask, or a default ACL of the directory. */
	if ((st.st_mode & 07777) != PRIVATE && fchmod(file->fd, PRIVATE) < 0)
		return -errno;
	node->size = size;
	node->blocks = file->n_blocks * SECTORS;
	node->stamp = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
	node->checksum = checksum;
	return 0;
}

int import_file_clone(struct import_file *file, int fd, uint64_t size, uint64_t checksum)
{
	uint64_t at = 0, data, end;
	int r = io_clone(fd, file->fd, size);

	if (r < 0)
		return r;
	while (io_next_data(fd, at, size, &data, &end)) {
		count_blocks(file, end - data, data);
		at = end;
	}
	return close_content(file, size, checksum);
}

int import_file_end(struct import_file *file, uint64_t size)
{
	if (size < file->end || size > INT64_MAX)
		return -EUCLEAN;
	if (size > file->end && ftruncate(file->fd, (off_t)size) < 0)
		return -errno;
	return close_content(file, size, checksum_content_end(file->sum, size));
}
