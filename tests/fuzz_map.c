/*
 * fuzz_map: what the library maps of a file is a copy of exactly so many bytes, so that a sanitizer sees a read behind the end.
 * Invariant: a copy reads as the map would, and goes where the map would go.
 * Called by the linker in place of mmap(2), munmap(2) and madvise(2), in fuzz targets.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *__wrap_mmap64(void *addr, size_t len, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *addr, size_t len);
int __wrap_madvise(void *addr, size_t len, int advice);

void *__wrap_mmap64(void *addr, size_t len, int protection, int flags, int fd, off_t offset)
{
	unsigned char *copy = len > 0 ? calloc(1, len) : NULL;

	if (copy && flags & MAP_ANONYMOUS)
		return copy;
	if (!copy || pread(fd, copy, len, offset) != (ssize_t)len) {
		free(copy);
		return MAP_FAILED;
	}
	return copy;
}

int __wrap_munmap(void *addr, size_t len)
{
	free(addr);
	return 0;
}

/* A map that is let go of reads the file again; a copy has it still. */
int __wrap_madvise(void *addr, size_t len, int advice)
{
	return 0;
}
