/*
 * follow: decides on which CPU, and how eagerly, the loop runs, so that a request costs its client least.
 *
 * Client and server take turns, and neither has work for long. Linux does not know: it wakes each of them on an idle CPU, and on
 * a virtual machine that takes ten times as long as switching from one to the other on the same CPU. So the server stays on
 * its client's CPU, in a thread that gives way (SCHED_IDLE), because Linux takes a CPU on which only such threads run for
 * idle, and the client stays there too. Such a thread may starve where others want the CPU, first of all threads of this process
 * that read from a disk: then a plain one takes its place, for a while. So it does where several clients leave no CPU idle:
 * there is nothing to be gained, since nobody is woken anywhere else, and each request would wait. See sched(7) and
 * sched_setaffinity(2).
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	FOLLOW_LOOK_NS = 1000000, /* a look, which costs as much as five answers, is due every so often */
	FOLLOW_CROWD_MAX = 64,
};

struct follow {
	cpu_set_t allowed; /* where the loop may run at all */
	bool gives_way;    /* which thread runs it now */
	int cpu;           /* where that one stays; -1: anywhere */
	int cpus;          /* how many the machine has */
	int crowd;         /* grows with looks that find a crowd, shrinks with others: 0 to FOLLOW_CROWD_MAX */
	unsigned int strikes;
	int64_t started, looked; /* ns, CLOCK_MONOTONIC */
	int64_t patience, retry; /* for how long a plain one runs after a thread was starved, and until when */
	uint64_t waited;         /* ns that the thread could have run and did not */
	pid_t client;
	uint64_t client_ran; /* ns */
	uint64_t readings;
};

void follow_init(struct follow *f);

/* The thread that calls has taken over. */
void follow_start(struct follow *f, bool gives_way);

/*
 * A request of this client (a thread; 0: nobody's) was answered. readings: how often other threads have been given something to
 * read. True when the other thread shall take over.
 */
bool follow_turn(struct follow *f, pid_t client, uint64_t readings);
