/*
 * follow: owns the choice of the CPU and of the thread that serve's loop runs on.
 * Invariant: a thread that gives way is bound to one of the CPUs that it was allowed; a plain one to none.
 * Called by serve's loop, on the thread that runs it.
 */
#include "follow.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "proc.h"

enum {
	STRIKES = 3,
	CROWDED = FOLLOW_CROWD_MAX * 3 / 4,  /* from here no CPU counts as idle, */
	CALM = FOLLOW_CROWD_MAX / 4,         /* and from here one does again */
	CROWD_STEP = 2,                      /* what a look that finds a crowd adds, */
	STARVED_STEP = FOLLOW_CROWD_MAX / 8, /* and one that has starved in it */
	FIELD_PROCESSOR = 39,                /* of /proc/PID/stat, counted from 1: see proc(5) */
};

static const int64_t STARVED = 2000000;         /* ns that requests waited for the CPU since the last look */
static const int64_t PATIENCE_MIN = 1000000000; /* ns */
static const int64_t PATIENCE_MAX = 64000000000;

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* How long a thread ran, and how long it could have run and did not, in ns. False where the kernel does not count. */
static bool times_of(pid_t thread, uint64_t *ran, uint64_t *waited)
{
	char path[48], text[128];

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)thread);
	proc_read(path, text, sizeof(text));
	*ran = 0;
	*waited = 0;
	return sscanf(text, "%" SCNu64 " %" SCNu64, ran, waited) == 2;
}

static void stay(struct follow *f, int cpu)
{
	cpu_set_t one;

	if (cpu == f->cpu || cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET((size_t)cpu, &f->allowed))
		return;
	CPU_ZERO(&one);
	CPU_SET((size_t)cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one) == 0)
		f->cpu = cpu;
}

void follow_init(struct follow *f)
{
	*f = (struct follow){.cpu = -1, .patience = PATIENCE_MIN, .cpus = (int)sysconf(_SC_NPROCESSORS_ONLN)};
	if (sched_getaffinity(0, sizeof(f->allowed), &f->allowed) < 0)
		CPU_ZERO(&f->allowed);
}

/*
 * True when requests have waited for the CPU. While the client itself runs, the thread that has answered it is not needed, and
 * its waiting does not count.
 */
static bool has_waited(struct follow *f, pid_t client)
{
	uint64_t ran, waited, client_ran, unused;
	int64_t lost;

	if (!times_of(gettid(), &ran, &waited))
		return true; /* nobody can tell: better not be */
	times_of(client, &client_ran, &unused);
	lost = (int64_t)(waited - f->waited) - (int64_t)client_ran;
	if (client == f->client)
		lost += (int64_t)f->client_ran;
	f->waited = waited;
	f->client = client;
	f->client_ran = client_ran;
	return lost > STARVED;
}

void follow_start(struct follow *f, bool gives_way)
{
	uint64_t ran;

	f->gives_way = gives_way;
	f->cpu = -1;
	if (gives_way)
		sched_setaffinity(0, sizeof(f->allowed), &f->allowed); /* it is bound still to where it was before */
	f->started = f->looked = now();
	f->retry = f->crowd >= CROWDED ? f->started : f->started + f->patience;
	f->strikes = 0;
	f->client = 0;
	f->client_ran = 0;
	times_of(gettid(), &ran, &f->waited);
}

/* The next time is further away when this one did not last. */
static void lose_patience(struct follow *f, int64_t time)
{
	if (time - f->started > 16 * f->patience)
		f->patience = PATIENCE_MIN;
	else if (f->patience < PATIENCE_MAX)
		f->patience *= 2;
}

/* True when other threads have been given something to read since this was asked last. */
static bool others_read(struct follow *f, uint64_t readings)
{
	bool more = readings != f->readings;

	f->readings = readings;
	return more;
}

static bool is_another(const struct follow *f, pid_t client)
{
	return f->client != 0 && client != f->client;
}

/*
 * Several clients, and more threads that can run than CPUs: see proc_loadavg(5). One client alone has the loop's answer before
 * anybody else matters, and the others are often the host's own, which write back. Who starves sees a crowd in fewer looks.
 */
static void look_for_a_crowd(struct follow *f, bool another, bool starves)
{
	int step = starves ? STARVED_STEP : CROWD_STEP, runnable = 0;
	char text[64];

	if (another) {
		proc_read("/proc/loadavg", text, sizeof(text));
		sscanf(text, "%*s %*s %*s %d/", &runnable);
	}
	if (runnable <= f->cpus)
		f->crowd -= f->crowd > 0;
	else
		f->crowd += step < FOLLOW_CROWD_MAX - f->crowd ? step : FOLLOW_CROWD_MAX - f->crowd;
}

static bool plain_turn(struct follow *f, int64_t time, pid_t client, uint64_t readings)
{
	if (time <= f->retry || time - f->looked < FOLLOW_LOOK_NS || CPU_COUNT(&f->allowed) < 2)
		return false;
	f->looked = time;
	look_for_a_crowd(f, is_another(f, client), false);
	f->client = client;
	if (f->crowd > CALM)
		return false;
	f->retry = time + PATIENCE_MIN;
	return !others_read(f, readings);
}

/* Not for what one look sees alone: processes end and begin in between, and one read makes no crowd. */
static bool giving_way_turn(struct follow *f, int64_t time, pid_t client, uint64_t readings)
{
	uint64_t before;
	bool another, reads, waited;

	if (time - f->looked < FOLLOW_LOOK_NS)
		return false;
	f->looked = time;
	before = f->waited;
	another = is_another(f, client);
	reads = others_read(f, readings);
	waited = has_waited(f, client);
	look_for_a_crowd(f, another, f->waited - before > (uint64_t)STARVED);
	f->strikes = waited || reads ? f->strikes + 1 : 0;
	if (f->strikes == STRIKES && !reads)
		lose_patience(f, time);
	if (f->crowd >= CROWDED || f->strikes == STRIKES || CPU_COUNT(&f->allowed) < 2)
		return true;
	stay(f, (int)proc_stat(client, FIELD_PROCESSOR));
	return false;
}

bool follow_turn(struct follow *f, pid_t client, uint64_t readings)
{
	int64_t time = now();

	return f->gives_way ? giving_way_turn(f, time, client, readings) : plain_turn(f, time, client, readings);
}
