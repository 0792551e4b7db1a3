/*
 * fuzz_table: any bytes as the table of a session's sealed layer.
 * Invariant: the table belongs to the layer's journal, as far as its header has room to say so: what does not is none.
 * Called by a fuzzer or by its replay.
 */
#include "fuzz.h"

#include "format.h"
#include "fuzz_world.h"
#include "unit.h"
#include "unit_op.h"
#include "unit_tabled.h"

static const char table[] = "session/layers/1/table";

/* As many rows as there are bytes for; the last section has the rest. */
size_t fuzz_mend(unsigned char *bytes, size_t len)
{
	struct disk_table_header h;
	size_t left;
	struct {
		struct le64 *count;
		size_t size;
	} sections[] = {{&h.n_inodes, sizeof(struct disk_table_inode)},
	                {&h.n_dirs, sizeof(struct disk_table_dir)},
	                {&h.n_entries, sizeof(struct disk_table_entry)},
	                {&h.bytes_len, 1}};

	if (len < sizeof(h))
		return len;
	left = len - sizeof(h);
	memcpy(&h, bytes, sizeof(h));
	h.bytes_len = le64(left);
	for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
		uint64_t room = left / sections[i].size, n = from_le64(*sections[i].count);

		*sections[i].count = le64(n < room ? n : room);
		left -= from_le64(*sections[i].count) * sections[i].size;
	}
	memcpy(bytes, &h, sizeof(h));
	return len - left;
}

/* A session whose first layer is sealed, with something of each kind; it is closed, and has a table. */
static void make_session(struct world *w)
{
	static const struct op ops[] = {
		{OP_MKDIR, "made", NULL, 0, 0, 0},
		{OP_MKFILE, "made/a", NULL, 0, 0, 0},
		{OP_WRITE, "made/a", NULL, 7, 0, 300},
		{OP_LINK, "made/a", "b", 0, 0, 0},
		{OP_RENAME, "dir", "made/dir", 0, 0, 0},
		{OP_SYMLINK, "made/link", "b", 0, 0, 0},
		{OP_SETXATTR, "b", NULL, 1, 0, 20},
		{OP_UNLINK, "hard", NULL, 0, 0, 0},
		{OP_WRITE, "made/dir/child", NULL, 5, 4500, 9},
		{OP_MKFIFO, "fifo", NULL, 0, 0, 0},
	};

	world_open(w);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		expect_status(op_tree(w, &ops[i]), 0, "step %zu", i);
	world_snapshot(w, "s1");
	w->closed = 0;
	world_close(w);
	place_forget_lines(&w->place);
}

size_t fuzz_seed(unsigned int nr, unsigned char bytes[FUZZ_INPUT_MAX])
{
	struct world *w;
	size_t len;

	if (nr > 0)
		return 0;
	w = fuzz_begin();
	make_session(w);
	len = fuzz_take(w, table, bytes);
	fuzz_end(w);
	return len;
}

/* Says of the table that it belongs where the session's own one did: no input can know the times in the journal. */
static void bind(struct world *w, unsigned char *bytes, size_t len)
{
	struct disk_table_header h;
	unsigned char *own;
	size_t own_len;

	if (len < sizeof(h))
		return;
	own = place_get(w->place.fd, table, &own_len);
	memcpy(&h, own, sizeof(h));
	free(own);
	memcpy(bytes, &h, offsetof(struct disk_table_header, n_inodes));
	tabled_make_sums_right(bytes, len);
}

void fuzz_one(const unsigned char *bytes, size_t len)
{
	struct world *w = fuzz_begin();
	unsigned char *bound = malloc(len + 1);

	assert_non_null(bound);
	memcpy(bound, bytes, len);
	make_session(w);
	bind(w, bound, len);
	place_put(w->place.fd, table, bound, len);
	free(bound);
	fuzz_session(w);
	fuzz_end(w);
}
