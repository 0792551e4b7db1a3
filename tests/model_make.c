/*
 * model_make: what to do next.
 * Invariant: the seed and the host directory's names decide everything, not the order in which they are listed.
 * Called by model_run.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checksum.h"
#include "io.h"
#include "model.h"

/* One of a directory's names, each as likely as the other: false when it has none or is none. */
static bool pick_name(struct model *m, const char *path, char name[NAME_MAX + 1])
{
	uint64_t salt = unit_random(&m->random, UINT64_MAX), least = UINT64_MAX;
	int fd = io_open_beneath(m->hostfd, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		uint64_t hash = checksum64(entry->d_name, strlen(entry->d_name), salt);

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || hash >= least)
			continue;
		least = hash;
		snprintf(name, NAME_MAX + 1, "%s", entry->d_name);
	}
	if (dir)
		closedir(dir);
	return least != UINT64_MAX;
}

/* A path of at most four names, two of three of them names that are there. */
static void random_path(struct model *m, char path[OP_PATH_MAX])
{
	static const char *const names[] = {"a", "b", "c", "d", "e", "\xff\xfe", "f g"};
	size_t used = 0;

	path[0] = '\0';
	for (unsigned int depth = 0; depth < 4; depth++) {
		char name[NAME_MAX + 1];

		if (!unit_random(&m->random, 3) || !pick_name(m, path, name))
			snprintf(name, sizeof(name), "%s", names[unit_random(&m->random, ARRAY_LEN(names))]);
		used += (size_t)snprintf(path + used, OP_PATH_MAX - used, "%s%s", depth ? "/" : "", name);
		if (unit_random(&m->random, 3) == 0)
			break;
	}
}

static void make_numbers(struct model *m, struct step *step)
{
	static const unsigned int renames[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
	static const unsigned int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
	                                     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};

	step->number = unit_random(&m->random, 40000);
	step->offset = unit_random(&m->random, 40000);
	step->len = unit_random(&m->random, 9000) + 1;
	if (step->kind == OP_RENAME)
		step->number = renames[unit_random(&m->random, ARRAY_LEN(renames))];
	if (step->kind == OP_ALLOCATE)
		step->number = modes[unit_random(&m->random, ARRAY_LEN(modes))];
	if (step->kind == OP_CHMOD)
		step->number = 0700 | unit_random(&m->random, 0100);
	if (step->kind == OP_CHOWN)
		step->number = unit_random(&m->random, 3) << 16 | unit_random(&m->random, 3);
	if (step->kind == OP_CHOWN && (geteuid() != 0 || !m->options.owners))
		step->number = (uint64_t)geteuid() << 16 | getegid(); /* nobody else may */
	if (step->kind == OP_SETXATTR || step->kind == OP_REMOVEXATTR)
		step->len = step->len % 300;
}

/* Links that the kernel refuses where files do not seem to be the user's: fs.protected_hardlinks. */
static bool is_refused_to_users(struct model *m, const struct step *step)
{
	struct stat st;

	return step->kind == OP_LINK && geteuid() != 0 && fstatat(m->hostfd, step->a, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       !S_ISREG(st.st_mode);
}

static void make_op(struct model *m, struct step *step)
{
	static const unsigned int kinds[] = {
		OP_MKDIR, OP_MKDIR,  OP_MKDIR,  OP_MKFILE, OP_MKFILE,   OP_MKFIFO,   OP_SYMLINK,     OP_LINK,
		OP_LINK,  OP_UNLINK, OP_UNLINK, OP_RMDIR,  OP_RENAME,   OP_RENAME,   OP_RENAME,      OP_RENAME,
		OP_WRITE, OP_WRITE,  OP_WRITE,  OP_PUNCH,  OP_TRUNCATE, OP_COPY,     OP_COPY,        OP_ALLOCATE,
		OP_CHMOD, OP_CHOWN,  OP_UTIMES, OP_UTIMES, OP_SETXATTR, OP_SETXATTR, OP_REMOVEXATTR,
	};

	do {
		step->kind = kinds[unit_random(&m->random, ARRAY_LEN(kinds))];
		make_numbers(m, step);
		random_path(m, step->a);
		random_path(m, step->b);
	} while (is_refused_to_users(m, step) ||
	         (!m->options.xattrs && (step->kind == OP_SETXATTR || step->kind == OP_REMOVEXATTR)));
	if (step->kind > OP_RENAME && step->kind != OP_COPY)
		step->b[0] = '\0';
}

static void make_slot_step(struct model *m, struct step *step)
{
	static const unsigned int kinds[] = {STEP_CLOSE, STEP_READ,  STEP_READ,  STEP_READ, STEP_READ,
	                                     STEP_WRITE, STEP_WRITE, STEP_WRITE, STEP_CUT};

	step->number = unit_random(&m->random, MODEL_SLOTS);
	step->kind = kinds[unit_random(&m->random, ARRAY_LEN(kinds))];
	step->offset = unit_random(&m->random, 12000);
	step->len = unit_random(&m->random, MODEL_READ_MAX) + 1;
	if (m->host_slots[step->number] < 0) {
		step->kind = STEP_OPEN;
		random_path(m, step->a);
	}
}

static void make_layer_step(struct model *m, struct step *step)
{
	step->number = unit_random(&m->random, MODEL_SNAPSHOTS + 1);
	if (step->number == MODEL_SNAPSHOTS)
		step->kind = STEP_RESET;
	else if (!m->snapshots[step->number])
		step->kind = STEP_SNAPSHOT;
	else
		step->kind = unit_random(&m->random, 4) ? STEP_RESET : STEP_DELETE;
}

void model_make_step(struct model *m, struct step *out)
{
	uint64_t dice = unit_random(&m->random, 400);

	*out = (struct step){0};
	if (dice < 80)
		make_slot_step(m, out);
	else if (dice < 84)
		make_layer_step(m, out);
	else if (dice < 86)
		out->kind = dice == 84 ? STEP_REOPEN : STEP_CRASH;
	else
		make_op(m, out);
}
