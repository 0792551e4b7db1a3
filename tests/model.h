/*
 * model: random steps in a session and in a plain host directory, which must give the same results and the
 * same trees.
 * Invariant: a step says all that it needs in its text, so that any part of a script is a script.
 * Called by unit_model.c, which chooses.
 *
 *     model_step.c      steps as text, lists of them
 *     model_make.c      the next random step
 *     model_run.c       steps against one side and the host directory
 *     model_tree.c      a side that calls the tree
 *     model_mount.c     a side that goes through a mount
 *     model_shrink.c    the shortest part of a script that still fails
 */
#pragma once

#include "unit.h"
#include "unit_dump.h"
#include "unit_op.h"

enum step_kind {
	STEP_OPEN = OP_KINDS, /* a in slot number, to read and write */
	STEP_CLOSE,           /* slot number */
	STEP_READ,            /* slot number: len bytes at offset */
	STEP_WRITE,
	STEP_CUT,      /* slot number, to offset */
	STEP_SNAPSHOT, /* s<number>, when there is none */
	STEP_RESET,    /* to s<number>, or to the base when there is none */
	STEP_DELETE,   /* s<number> */
	STEP_REOPEN,   /* the session ends and begins again */
	STEP_CRASH,    /* the same, without being asked */
	STEP_KINDS,
};

enum {
	MODEL_SLOTS = 4,
	MODEL_SNAPSHOTS = 5,
	MODEL_READ_MAX = 8192,
	MODEL_DUMP_EVERY = 16, /* steps between two looks at the whole trees, when a script is long */
	MODEL_SHORT = 100,     /* a script that is looked at after each step */
};

struct step {
	unsigned int kind; /* enum op_kind or enum step_kind */
	uint64_t number, offset, len;
	char a[OP_PATH_MAX], b[OP_PATH_MAX];
};

struct script {
	struct step *steps;
	size_t n;
};

enum { STEP_TEXT_MAX = 6 * OP_PATH_MAX + 100 };

/* "kind number offset len a b": names with %xx for what is no graphic ASCII character, "-" for none. */
const char *step_text(const struct step *step, char text[STEP_TEXT_MAX]);
bool step_parse(const char *text, struct step *out);

/* Lines that are no steps are left out; exits when the file cannot be read. */
struct script script_read(const char *path);
void script_print(const struct script *script, FILE *to);
void script_free(struct script *script);

struct model;

/* Where the steps go beside the host directory. apply, open and the like answer as system calls: -errno. */
struct side {
	const char *name;
	void (*prepare)(struct model *m); /* in the process that watches */
	void (*start)(struct model *m);   /* in the one that does the steps */
	void (*clean)(struct model *m);   /* in the one that watches */
	int (*apply)(struct model *m, const struct op *op);
	int (*open)(struct model *m, unsigned int slot, const char *path);
	void (*close)(struct model *m, unsigned int slot);
	ssize_t (*read)(struct model *m, unsigned int slot, void *buf, size_t len, uint64_t at);
	ssize_t (*write)(struct model *m, unsigned int slot, const void *buf, size_t len, uint64_t at);
	int (*cut)(struct model *m, unsigned int slot, uint64_t size);
	void (*snapshot)(struct model *m, const char *name);
	void (*reset)(struct model *m, const char *name);
	void (*delete)(struct model *m, const char *name);
	void (*reopen)(struct model *m, bool crash);
	char *(*dump)(struct model *m);
};

extern const struct side side_tree, side_mount;

/* What a side is asked for: model_mount.c reads it; the tree is always as root sees it. */
struct model_options {
	const struct side *side;
	const char *mount_options; /* as behind -o; NULL: none */
	bool imported;
	bool xattrs; /* and times are looked at */
	bool owners; /* files get other owners; a guest's new files belong to the directory's */
};

struct model {
	struct model_options options;
	struct world w;
	struct unit_random random;
	char host[200], script[200], said[200], mountpoint[256];
	int hostfd, mountfd;
	int host_slots[MODEL_SLOTS], mount_slots[MODEL_SLOTS]; /* -1: empty */
	uint64_t tree_slots[MODEL_SLOTS];                      /* inode numbers */
	bool snapshots[MODEL_SNAPSHOTS]; /* which of s0 .. s4 exist; the host's copies are host-s0 .. */
};

/* The next step, chosen from what there is. */
void model_make_step(struct model *m, struct step *out);

/*
 * Does n random steps from a seed (script NULL) or those of a script, in a process of its own and a place of
 * its own. True when all was the same; else done has the steps up to the one that was not, and said (on the
 * heap) tells the difference.
 */
bool model_run(const struct model_options *options, uint64_t seed, size_t n, const struct script *script,
               struct script *done, char **said);

/* Takes steps out of a script that fails for as long as it fails without them, for some seconds at most. */
void model_shrink(const struct model_options *options, struct script *script, unsigned int seconds, char **said);
