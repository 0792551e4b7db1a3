/*
 * run_cpu: keeps the processes of a guest together on one CPU, and moves them when others want it.
 *
 * The kernel of a guest with one CPU and the processes that its programs run in are processes of the host that take turns. Linux
 * wakes each of them on a CPU that is idle, and that takes several times as long as to switch from one to the other.
 *
 * Invariant: all processes of the guest are bound to one CPU, the one on which Linux put the first, or all to none.
 * Called by run_guest, in the process that becomes the kernel, and by run_keeper.
 */
#include "run.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/*
 * Parts of the time since the last look: a guest is crowded that waited for its CPU for more than a 20th (seen: alone a 40th at
 * most, beside a busy loop a 7th to a 4th), and a CPU is idle that was so for half of it.
 */
enum { WAITED_PART = 20, IDLE_PART = 2, LINE = 512 };

/* A kernel that is told of several CPUs, and knows what to do with them, has processes that run at once. */
static bool has_several(const struct run_options *o)
{
	return o->append && strstr(o->append, "ncpus=");
}

void run_bind_to_cpu(const struct run_options *o)
{
	cpu_set_t one;
	int cpu = sched_getcpu();

	if (cpu < 0 || has_several(o))
		return;
	CPU_ZERO(&one);
	CPU_SET((size_t)cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/* Of the kernel: ns that it could have run and did not. */
static bool read_waited(pid_t kernel, uint64_t *out)
{
	char path[48];
	FILE *file;
	bool found;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)kernel);
	file = fopen(path, "re");
	if (!file)
		return false;
	found = fscanf(file, "%*u %" SCNu64, out) == 1;
	fclose(file);
	return found;
}

/* See proc_stat(5): for how many ticks each CPU was idle. */
static void read_idle(uint64_t idle[CPU_SETSIZE])
{
	FILE *file = fopen("/proc/stat", "re");
	char line[LINE];

	memset(idle, 0, CPU_SETSIZE * sizeof(*idle));
	while (file && fgets(line, sizeof(line), file)) {
		uint64_t ticks, waits;
		unsigned int cpu;

		if (sscanf(line, "cpu%u %*u %*u %*u %" SCNu64 " %" SCNu64, &cpu, &ticks, &waits) == 3 &&
		    cpu < CPU_SETSIZE)
			idle[cpu] = ticks + waits;
	}
	if (file)
		fclose(file);
}

/* The CPU that was idle longest since the last look, and for half of that time; -1: there is none. */
static int idlest(const struct run_cpu *c, const uint64_t idle[CPU_SETSIZE], int64_t ms)
{
	uint64_t least = (uint64_t)(ms * sysconf(_SC_CLK_TCK) / 1000 / IDLE_PART);
	int found = -1;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		uint64_t ticks = idle[cpu] - c->idle[cpu];

		if (!CPU_ISSET((size_t)cpu, &c->allowed) || idle[cpu] < c->idle[cpu] || ticks < least)
			continue;
		least = ticks + 1;
		found = cpu;
	}
	return found;
}

/* True for every other one who asks: guests that share a CPU do not all go to the same. */
static bool toss(void)
{
	unsigned char byte;

	return getrandom(&byte, sizeof(byte), GRND_NONBLOCK) == sizeof(byte) && byte % 2 == 0;
}

static void bind_threads(const char *pid, const cpu_set_t *cpus)
{
	char path[64];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.20s/task", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (isdigit((unsigned char)entry->d_name[0]))
			sched_setaffinity(atoi(entry->d_name), sizeof(*cpus), cpus);
	}
	if (dir)
		closedir(dir);
}

/* The kernel first: what it makes meanwhile is where it is. */
static void move(pid_t kernel, int cpu)
{
	cpu_set_t one;
	struct dirent *entry;
	DIR *proc = opendir("/proc");

	CPU_ZERO(&one);
	CPU_SET((size_t)cpu, &one);
	sched_setaffinity(kernel, sizeof(one), &one);
	while (proc && (entry = readdir(proc))) {
		if (isdigit((unsigned char)entry->d_name[0]) && getpgid(atoi(entry->d_name)) == kernel)
			bind_threads(entry->d_name, &one);
	}
	if (proc)
		closedir(proc);
}

void run_cpu_init(struct run_cpu *c, const struct run_options *o)
{
	*c = (struct run_cpu){.looked = (int64_t)(cmd_seconds() * 1000)};
	if (has_several(o) || sched_getaffinity(0, sizeof(c->allowed), &c->allowed) < 0)
		CPU_ZERO(&c->allowed);
}

int run_cpu_due(const struct run_cpu *c)
{
	return CPU_COUNT(&c->allowed) > 1 ? RUN_CPU_LOOK_MS : -1;
}

void run_cpu_look(struct run_cpu *c, pid_t kernel)
{
	uint64_t idle[CPU_SETSIZE], waited;
	int64_t now = (int64_t)(cmd_seconds() * 1000), ms = now - c->looked;
	bool crowded;

	if (ms < RUN_CPU_LOOK_MS || run_cpu_due(c) < 0 || !read_waited(kernel, &waited))
		return;
	crowded = (int64_t)(waited - c->waited) / 1000000 > ms / WAITED_PART;
	if (crowded) {
		read_idle(idle);
		if (c->was_crowded) {
			int cpu = idlest(c, idle, ms);

			if (cpu >= 0 && toss())
				move(kernel, cpu);
		}
		memcpy(c->idle, idle, sizeof(c->idle));
	}
	c->was_crowded = crowded;
	c->waited = waited;
	c->looked = now;
}
