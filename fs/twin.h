/*
 * twin: two threads that take turns in one piece of work: a plain one, and one that gives way (SCHED_IDLE, see sched(7)).
 *
 * One thread cannot be both: an ordinary user's thread that has become SCHED_IDLE may not go back.
 */
#pragma once

#include <stdbool.h>

enum twin_next { TWIN_END, TWIN_PLAIN, TWIN_GIVING_WAY };

/*
 * Calls work(arg, gives_way) on one of the threads at a time, on the one that gives way first, and goes on as it answers until
 * that is TWIN_END. Where no thread can give way, the plain one, the caller's, does it all.
 */
void twin_run(enum twin_next (*work)(void *arg, bool gives_way), void *arg);
