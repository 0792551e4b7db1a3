/*
 * test_import: promises of import that a command line cannot see. Owns a directory below TMPDIR for each
 * test. Invariant: a test leaves nothing there. Called by meson test.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "import_file.h"
#include "import_member.h"
#include "io.h"
#include "umlfs/import.h"

enum {
	TAR_BLOCK = 512,
	MIB = 1 << 20,
};

struct place {
	char path[64];
	int fd;
	int archive;          /* being written */
	unsigned int n_lines; /* that were logged */
	char line[1024];      /* the last of them */
};

static void keep_line(void *arg, enum log_level level, const char *line)
{
	struct place *p = arg;

	p->n_lines++;
	snprintf(p->line, sizeof(p->line), "%s", line);
}

static int make_place(void **state)
{
	const char *tmp = getenv("TMPDIR");
	struct place *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	snprintf(p->path, sizeof(p->path), "%s/umlfs-test-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(p->path));
	p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	p->archive = openat(p->fd, "a.tar", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(p->fd >= 0 && p->archive >= 0);
	*state = p;
	return 0;
}

static int remove_place(void **state)
{
	struct place *p = *state;

	close_fd(p->fd);
	close_fd(p->archive);
	assert_int_equal(io_remove_tree(AT_FDCWD, p->path), 0);
	free(p);
	return 0;
}

/* Adds a member to the archive, of len times 'x'. type as in tar(5). */
static void add(struct place *p, const char *name, char type, const char *link, size_t len)
{
	char *data = calloc(1, len + TAR_BLOCK);
	char header[TAR_BLOCK] = {0};
	unsigned int sum = 0;
	size_t padded = (len + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;

	assert_non_null(data);
	snprintf(header, 100, "%s", name);
	memcpy(header + 100, "0000644", 8);
	memcpy(header + 108, "0000000", 8);
	memcpy(header + 116, "0000000", 8);
	snprintf(header + 124, 12, "%011zo", len);
	memcpy(header + 136, "00000000000", 12);
	memset(header + 148, ' ', 8);
	header[156] = type;
	snprintf(header + 157, 100, "%s", link);
	memcpy(header + 257, "ustar\00000", 8);
	for (size_t i = 0; i < sizeof(header); i++)
		sum += (unsigned char)header[i];
	snprintf(header + 148, 8, "%06o", sum);
	memset(data, 'x', len);
	assert_int_equal(write(p->archive, header, sizeof(header)), sizeof(header));
	assert_int_equal(write(p->archive, data, padded), padded);
	free(data);
}

static void end_archive(struct place *p)
{
	char zeros[2 * TAR_BLOCK] = {0};

	assert_int_equal(write(p->archive, zeros, sizeof(zeros)), sizeof(zeros));
}

static int run(struct place *p, const char *source, int (*progress)(void *, const struct progress *), void *arg,
               struct import_result *result)
{
	const struct log log = {keep_line, p};
	char from[128], base[128];
	const char *const sources[] = {from};
	const struct import_options options = {
		.sources = sources,
		.n_sources = 1,
		.base = base,
		.log = &log,
		.progress = progress,
		.progress_arg = arg,
	};

	snprintf(from, sizeof(from), "%s/%s", p->path, source);
	snprintf(base, sizeof(base), "%s/out/base", p->path);
	mkdirat(p->fd, "out", 0700);
	return import_run(&options, result);
}

static void names_become_paths_below_the_root(void **state)
{
	static const struct {
		const char *name, *path; /* path NULL: refused */
		int r;
	} cases[] = {
		{"a", "a", 0},
		{"a/b", "a/b", 0},
		{"./a/./b/.", "a/b", 0},
		{"/a//b/", "a/b", 0},
		{"", "", 0},
		{".", "", 0},
		{"./", "", 0},
		{"/", "", 0},
		{"...", "...", 0},
		{"..a/a..", "..a/a..", 0},
		{".a", ".a", 0},
		{"..", NULL, -EPERM},
		{"a/..", NULL, -EPERM},
		{"/..", NULL, -EPERM},
		{"a/../b", NULL, -EPERM},
		{"./.umlfs", NULL, -EPERM},
		{".umlfs/x", NULL, -EPERM},
		{"a/.umlfs", "a/.umlfs", 0},
		{".umlfs.", ".umlfs.", 0},
		{"\xff\x01\n", "\xff\x01\n", 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cleanup_free char *path = NULL;
		const char *why = NULL;
		size_t len = 99;

		assert_int_equal(import_member_path(cases[i].name, &path, &len, &why), cases[i].r);
		assert_int_equal(path != NULL, cases[i].path != NULL);
		assert_int_equal(why != NULL, cases[i].path == NULL);
		if (path) {
			assert_string_equal(path, cases[i].path);
			assert_int_equal(len, strlen(path));
		}
	}
}

static void names_of_255_bytes_are_the_longest(void **state)
{
	char name[1 + 256 + 1] = "/";
	const char *why;

	memset(name + 1, 'n', 256);
	for (size_t len = 256; len >= 255; len--) {
		cleanup_free char *path = NULL;
		size_t path_len;

		name[1 + len] = '\0';
		assert_int_equal(import_member_path(name, &path, &path_len, &why), len > 255 ? -ENAMETOOLONG : 0);
	}
}

/* What the caller's function saw. */
struct watch {
	unsigned int n_calls;
	unsigned int stop_at; /* 0: never */
	struct progress last;
	uint64_t most_bytes, most_entries; /* between two calls */
	int grow;                          /* a file to be made longer at the second call, -1: none */
};

static int watch(void *arg, const struct progress *now)
{
	struct watch *w = arg;
	uint64_t bytes = now->bytes - w->last.bytes;
	uint64_t entries = now->entries - w->last.entries;

	w->most_bytes = bytes > w->most_bytes ? bytes : w->most_bytes;
	w->most_entries = entries > w->most_entries ? entries : w->most_entries;
	w->last = *now;
	w->n_calls++;
	if (w->grow >= 0 && w->n_calls == 2)
		assert_int_equal(pwrite(w->grow, "y", 1, 8 * MIB), 1);
	return w->n_calls == w->stop_at;
}

static void make_large_archive(struct place *p)
{
	char name[32];

	add(p, "large", '0', "", 5 * MIB);
	for (unsigned int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "d%u/small", i % 7 * 1000 + i);
		add(p, name, '0', "", 3);
	}
	end_archive(p);
}

static void progress_is_told_in_time_and_ends_with_everything(void **state)
{
	struct place *p = *state;
	struct watch w = {.grow = -1};
	struct import_result result;
	struct stat st;

	make_large_archive(p);
	assert_int_equal(run(p, "a.tar", watch, &w, &result), 0);
	assert_int_equal(fstat(p->archive, &st), 0);
	assert_int_equal(w.last.bytes, st.st_size);
	assert_int_equal(w.last.bytes_total, st.st_size);
	assert_int_equal(w.last.entries, 301);
	assert_true(w.most_entries <= 64);
	assert_true(w.most_bytes <= MIB + MIB / 2);
	assert_int_equal(p->n_lines, 0);
}

static void stopped_at_any_call_it_leaves_nothing(void **state)
{
	struct place *p = *state;
	struct import_result result = {.entries = 77};
	struct watch w = {0};

	make_large_archive(p);
	for (unsigned int at = 1;; at++) {
		int r;

		w = (struct watch){.stop_at = at, .grow = -1};
		r = run(p, "a.tar", watch, &w, &result);
		if (w.n_calls < at)
			break;
		assert_int_equal(r, -ECANCELED);
		assert_int_equal(io_dir_empty(p->fd, "out"), 0);
		assert_int_equal(result.entries, 77);
	}
	assert_true(w.n_calls > 5);
	assert_int_equal(p->n_lines, 0);
}

static void a_file_that_changes_meanwhile_is_refused(void **state)
{
	struct place *p = *state;
	cleanup_free char *data = calloc(1, 4 * MIB);
	struct watch w = {.grow = -1};
	struct import_result result;

	assert_non_null(data);
	assert_int_equal(mkdirat(p->fd, "tree", 0700), 0);
	w.grow = openat(p->fd, "tree/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(io_write_all(w.grow, data, 4 * MIB, 0), 0);
	assert_int_equal(run(p, "tree", watch, &w, &result), -EBUSY);
	assert_non_null(strstr(p->line, "/tree/file: changed while it was read"));
	assert_int_equal(io_dir_empty(p->fd, "out"), 0);
	close_fd(w.grow);
}

static void the_result_counts_names_and_each_inode_once(void **state)
{
	struct place *p = *state;
	struct import_result result;

	add(p, "gone", '0', "", 1000);
	add(p, "gone", '5', "", 0);
	add(p, "d/one", '0', "", 500);
	add(p, "two", '1', "d/one", 0);
	add(p, "two", '0', "", 7);
	add(p, "three", '1', "two", 0);
	add(p, "symlink", '2', "target", 0);
	end_archive(p);
	assert_int_equal(run(p, "a.tar", NULL, NULL, &result), 0);
	assert_int_equal(result.entries, 6);
	assert_int_equal(result.bytes, 507);
}

static void pieces_of_a_file_may_not_overlap(void **state)
{
	struct place *p = *state;
	struct build_node node = {0};
	struct checksum_content *sum;
	struct import_file file;

	assert_int_equal(checksum_content_new(&sum), 0);
	import_file_init(&file, openat(p->fd, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600), &node, sum);
	assert_int_equal(import_file_write(&file, "abc", 3, 4095), 0);
	assert_int_equal(import_file_write(&file, "d", 1, 4097), -EUCLEAN);
	assert_int_equal(import_file_write(&file, "d", 1, UINT64_MAX), -EUCLEAN);
	assert_int_equal(import_file_write(&file, "d", 1, 4098), 0);
	assert_int_equal(import_file_write(&file, "", 0, 0), 0);
	assert_int_equal(import_file_write(&file, "e", 1, 100 * 4096), 0);
	assert_int_equal(import_file_end(&file, 100 * 4096), -EUCLEAN);
	assert_int_equal(import_file_end(&file, 200 * 4096), 0);
	assert_int_equal(node.size, 200 * 4096);
	assert_int_equal(node.blocks, 3 * 8);
	import_file_fini(&file);
	checksum_content_free(sum);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_become_paths_below_the_root),
		cmocka_unit_test(names_of_255_bytes_are_the_longest),
		cmocka_unit_test_setup_teardown(progress_is_told_in_time_and_ends_with_everything, make_place,
	                                        remove_place),
		cmocka_unit_test_setup_teardown(stopped_at_any_call_it_leaves_nothing, make_place, remove_place),
		cmocka_unit_test_setup_teardown(a_file_that_changes_meanwhile_is_refused, make_place, remove_place),
		cmocka_unit_test_setup_teardown(the_result_counts_names_and_each_inode_once, make_place, remove_place),
		cmocka_unit_test_setup_teardown(pieces_of_a_file_may_not_overlap, make_place, remove_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
