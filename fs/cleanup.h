/* cleanup: owned until handed over, so that every return is already clean. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Closes fd when it is one, keeps errno, and answers -1: fd = close_fd(fd). */
static inline int close_fd(int fd)
{
	if (fd >= 0) {
		int saved = errno;

		close(fd);
		errno = saved;
	}
	return -1;
}

/* Hands the descriptor over: the variable no longer owns it. */
static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Hands the heap block over: the variable no longer owns it. */
static inline void *take_ptr(void *pointer_to_pointer)
{
	void **slot = pointer_to_pointer;
	void *taken = *slot;

	*slot = NULL;
	return taken;
}

static inline void cleanup_close(int *fd)
{
	close_fd(*fd);
}

static inline void cleanup_heap(void *pointer_to_pointer)
{
	int saved = errno;

	free(*(void **)pointer_to_pointer);
	errno = saved;
}

static inline void cleanup_closedir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

#define cleanup_fd   __attribute__((cleanup(cleanup_close)))
#define cleanup_free __attribute__((cleanup(cleanup_heap)))
#define cleanup_dir  __attribute__((cleanup(cleanup_closedir)))
