/*
 * layer: what one session layer changes: inodes, names, content.
 *
 * A layer answers only for itself; stack asks one after the other. It changes in two steps, so that a change
 * is whole or absent: layer_prepare() gets all memory that the effects need, layer_commit() cannot fail.
 */
#pragma once

#include "journal.h"
#include "layer_dir.h"
#include "map.h"
#include "pool.h"
#include "ranges.h"
#include "record.h"
#include "umlfs/log.h"

/* Deleted is an answer: NONE: ask the layer below; GONE: stop here. */
enum find { FIND_NONE, FIND_HIT, FIND_GONE };

/*
 * A file of whose first bytes the content file has only some. It stays when the last of them has come, as what tells
 * which bytes must be there after a power cut.
 */
struct layer_part {
	struct ranges
		here; /* what the content file has of the bytes before below; what it names behind that means nothing */
	struct ranges fresh; /* those of them that may not be on disk: a hole in them was not written */
	uint64_t below;      /* the others of so many bytes are those of the layer below */
	uint64_t cap;        /* where layers were joined: below may never be more */
};

struct layer_table;

struct layer_bytes {
	size_t len;
	unsigned char bytes[];
};

struct layer_inode {
	struct map_node node; /* hash: number */
	struct inode attr;
	struct layer_bytes *xattrs; /* the whole set, when it is told here */
	struct layer_bytes *target; /* symlinks whose target is told here */
	struct layer_part *part;    /* NULL: the content is here whole, or not at all */
};

enum { LAYER_RECENT = 8 };

struct layer {
	uint32_t id;
	bool sealed;
	int layersfd;            /* the session's, borrowed */
	struct journal *journal; /* NULL once it is sealed and replayed */
	struct pool pool;        /* inodes and entries */
	struct map inodes, dirs;
	struct layer_table
		*table; /* has what the maps would have, which are empty then; NULL: they have it. See layer_table.h */
	bool apart;     /* some inodes have memory of their own: a target, a set, parts */
	uint64_t first_ino; /* lower numbers are the base's inodes */
	uint64_t ino_end;   /* above the numbers of all inodes that were ever here */
	uint64_t n_tombstones;
	uint64_t owed;        /* bytes of journal that taking all its names away takes: see layer_will_owe() */
	uint64_t n_unsettled; /* inodes without names, or with a run of writes that no record closed */
	uint64_t bytes;       /* of files that are in the content folder */
	uint64_t blocks;      /* what they take on the host, 512 bytes each, as far as it is known */
	/* What changes were about last, by number modulo LAYER_RECENT: NULL where that is not here. */
	struct layer_inode *recent[LAYER_RECENT];
	struct layer_dir *recent_dir;
	int64_t made; /* inodes that the session made and that have names: those that this layer adds, or (below 0) takes away */
};

/* One effect on its way into a layer: what the layer and those below have of its object, and memory for what it adds. */
struct layer_change {
	const struct effect *effect; /* borrowed until the commit */
	bool below_exists;           /* inode: below is valid; entry: some layer below has this name */
	struct inode below;
	uint64_t hash;                 /* entry: of its name */
	struct layer_inode *had_inode; /* what the layer has, NULL: nothing; after the commit what it has now */
	struct layer_entry *had_entry;
	struct layer_dir *had_dir;
	struct layer_inode *inode;
	struct layer_entry *entry;
	struct layer_dir *dir;
	struct layer_bytes *bytes; /* a copy of the target or the set */
	struct layer_part *part;
};

/*
 * Makes layers/ID below layersfd: an empty journal and an empty content folder. Leftovers of a dead process
 * go first.
 */
int layer_create(int layersfd, uint32_t id);

/* Puts the journal of one layer, up to byte len, behind that of another. Neither may be open for writing. */
int layer_append_journal(int layersfd, uint32_t to, uint32_t from, uint64_t len);

/*
 * Opens layers/ID, maps empty; replay is the session's. label is how messages call the session; first_ino is the first number
 * that is not the base's.
 */
int layer_open(int layersfd, uint32_t id, bool writable, uint64_t first_ino, const char *label, const struct log *log,
               struct layer **out);
void layer_free(struct layer *l);

const struct layer_inode *layer_inode(const struct layer *l, uint64_t ino);
enum find layer_find(const struct layer *l, uint64_t parent, const char *name, size_t len, uint64_t *ino_out);
const struct layer_dir *layer_dir(const struct layer *l, uint64_t ino);

/* Calls visit for each inode, or each directory that has or had entries here, in no order. */
void layer_each_inode(const struct layer *l, void (*visit)(struct map_node *node, void *arg), void *arg);
void layer_each_dir(const struct layer *l, void (*visit)(struct map_node *node, void *arg), void *arg);

/* Calls visit for each entry, in no order; parent is the directory's number. */
void layer_each_entry(const struct layer *l, void (*visit)(uint64_t parent, const struct layer_entry *entry, void *arg),
                      void *arg);

/* The layer is never written to again: its journal is closed. */
void layer_seal(struct layer *l);

/* What the table of a sealed layer belongs to: so many bytes of its journal, and the layers below. */
struct layer_table_key {
	uint64_t sealed;
	uint64_t under; /* their stack_numbers() */
};

/*
 * Of a sealed layer that was opened and not replayed: fills it from its table, and seals it. 0, or -errno: there is none that
 * belongs to the key, and the layer is to be replayed.
 */
int layer_load_table(struct layer *l, const struct layer_table_key *key);

/* Writes the table of a sealed layer, if it was not loaded from one. 0 or -errno: then there is none, or an old one. */
int layer_save_table(const struct layer *l, const struct layer_table_key *key);

uint64_t layer_n_inodes(const struct layer *l);

/* Inodes and tombstones: what `list` calls changes. */
uint64_t layer_changes(const struct layer *l);

/*
 * The steps of a change, in this order. layer_recall() looks up what the layer has; where it then answers true, below and
 * below_exists are to be filled in by who knows the layers below: nothing else is ever asked of them.
 */
bool layer_recall(struct layer *l, const struct effect *effect, struct layer_change *out);

/*
 * Gets memory for the n changes: 0, -ENOMEM, or -EUCLEAN for effects that make no sense (an inode that is
 * nowhere). In each case layer_discard() frees what was not used.
 */
int layer_prepare(struct layer *l, struct layer_change *changes, unsigned int n);

/*
 * What l->owed will be after the changes. So much of the journal is kept for removing what has a name in the layer: on a disk that
 * others filled, all that was made goes, even what holds no room. Names of below have no such place kept.
 */
uint64_t layer_will_owe(const struct layer *l, const struct layer_change *changes, unsigned int n);

void layer_commit(struct layer *l, struct layer_change *changes, unsigned int n, uint64_t serial);
void layer_discard(struct layer *l, struct layer_change *changes, unsigned int n);

static inline bool layer_has_content(const struct layer *l, const struct inode *attr)
{
	return S_ISREG(attr->mode) && attr->content_layer == l->id;
}

/* The record that takes a name of so many bytes away: its frame, the entry, and what changes of the inode and of the directory. */
static inline uint64_t layer_owed_for(uint64_t ino, size_t len)
{
	return ino == 0 ? 0 : 112 + len;
}

/* A range of a file in part that tells that all its parts are on disk (see record.h). False: there is nothing to tell. */
bool layer_part_synced(const struct layer *l, uint64_t ino, struct range *out);

/* How many bytes of the file are not here, but in the layer below. */
static inline uint64_t layer_away(const struct layer_inode *inode)
{
	uint64_t below = inode->part ? inode->attr.below : 0;

	return below > 0 && inode->part->here.bytes < below ? below - inode->part->here.bytes : 0;
}

/* For the layer_*.c files: what this layer has of it, or NULL. */
struct layer_inode *layer_own_inode(const struct layer *l, uint64_t ino);
struct layer_dir *layer_own_dir(const struct layer *l, uint64_t ino);
void layer_part_free(struct layer_part *part); /* may be NULL */
void layer_free_entry(struct layer *l, struct layer_entry *entry);

/* For the layer_*.c files: one that n_unsettled counts. */
static inline bool layer_unsettled(const struct layer_inode *inode)
{
	return inode->attr.nlink == 0 || inode->attr.dirty;
}

/*
 * Of a layer that is about to be sealed: inodes without names stay, because a layer above may change or link one that was open
 * then, but what they hold counts no more.
 */
void layer_discount_dead(struct layer *l);

/* For the layer_*.c files: adds an inode to what the layer holds, or (sign -1) takes it out, as it is at this moment. */
void layer_count(struct layer *l, const struct layer_inode *inode, int sign);

/*
 * Forgets an inode without names, and its names if it was a directory. Memory only: no change of state. True when it leaves a
 * content file, which the caller removes.
 */
bool layer_forget(struct layer *l, uint64_t ino);

/*
 * A dirty inode's content was written at this time and is so long now. Memory only: if the process dies, the
 * content file tells.
 */
void layer_wrote(struct layer *l, uint64_t ino, uint64_t size, struct timespec mtime, struct timespec ctime);

/* The cut that lowered `below` of a file in part was not made. Memory only: what closes the run of writes tells it. */
void layer_uncut(struct layer *l, uint64_t ino, uint64_t below);

/* A dirty inode's content takes so much on the host now, 512 bytes each. Memory only. */
void layer_takes(struct layer *l, uint64_t ino, uint64_t blocks);

/* Somebody counts on the bytes of the file. Memory only. */
void layer_promise(struct layer *l, uint64_t ino);
