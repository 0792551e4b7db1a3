/* serve_control: what the daemon does for the clients of session/control. For serve alone. */
#pragma once

#include <stdio.h>

#include "store.h"
#include "tree.h"

struct fuse_session;
struct serve_control;

struct serve_control_options {
	struct store *store;
	struct tree *tree;
	struct fuse_session *fuse;
	int fuse_fd;                          /* its descriptor */
	int device;                           /* a clone of that (device.h): notifications go through it. -1: none */
	int epoll;                            /* descriptors are added to it, with the descriptor as data */
	void (*status)(void *arg, FILE *out); /* adds the lines of STATUS that only the server knows */
	void (*settle)(void *arg);            /* answers what the kernel has asked until now */
	void *arg;                            /* of both */
};

/* Makes the socket; nobody is answered before it is started. */
int serve_control_new(const struct serve_control_options *options, struct serve_control **out);

/* Starts its threads. Call before the loop. */
int serve_control_start(struct serve_control *c);

/* Nothing is told to the kernel any more, and no thread has the device. Call after the loop. NULL is none. */
void serve_control_stop(struct serve_control *c);

/* Finishes what is under way, and removes the socket. NULL is none. */
void serve_control_free(struct serve_control *c);

/* A descriptor that was added to the epoll is ready. */
void serve_control_ready(struct serve_control *c, int fd);

/* True while a thread talks to the kernel: the loop must go on answering it. */
bool serve_control_busy(const struct serve_control *c);
