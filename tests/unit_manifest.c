/*
 * unit_manifest: promises of manifest.
 * Invariant: every damage is tried on the same small manifest, which is whole before and after.
 * Called by meson test.
 */
#include "manifest.h"

#include <fcntl.h>
#include <unistd.h>

#include "format.h"
#include "unit.h"
#include "unit_place.h"

static int setup(void **state)
{
	struct place *p = malloc(sizeof(*p));

	place_make(p);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	place_remove(*state);
	free(*state);
	return 0;
}

static const char *const names[] = {
	"plain",     "with space", "100%", "%41", "tab\tand\nnewline", "\xff\xfe\x80 not UTF-8",
	"e\xcc\x81", "end 0",      "\x7f",
};

static void fill(struct manifest *m)
{
	*m = (struct manifest){.next_ino = FORMAT_NUMBERS_END, .next_serial = 17, .next_layer = 9, .top = 8};
	m->base = (struct checksum_id){.low = 1, .high = UINT64_MAX - 1};
	m->base_path = strdup("/a path/with % and \xff\n in it");
	assert_int_equal(manifest_add_layer(m, 1, 0), 0);
	assert_int_equal(manifest_add_layer(m, 4, 1), 0);
	assert_int_equal(manifest_add_layer(m, 3, 1), 0);
	assert_int_equal(manifest_add_layer(m, 8, 3), 0);
	for (size_t i = 0; i < 3; i++) {
		m->layers[i].sealed = 100 + i;
		m->layers[i].changes = i;
		m->layers[i].bytes = UINT64_MAX - i;
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(manifest_add_snapshot(m, i % 2 ? 4 : 3, INT64_MIN + (int64_t)i, names[i]), 0);
}

static void expect_same(const struct manifest *got, const struct manifest *want)
{
	assert_memory_equal(&got->base, &want->base, sizeof(want->base));
	assert_string_equal(got->base_path, want->base_path);
	assert_true(got->next_ino == want->next_ino && got->next_serial == want->next_serial);
	assert_true(got->next_layer == want->next_layer && got->top == want->top);
	assert_int_equal(got->n_layers, want->n_layers);
	for (size_t i = 0; i < want->n_layers; i++) {
		assert_int_equal(got->layers[i].id, want->layers[i].id);
		assert_int_equal(got->layers[i].parent, want->layers[i].parent);
		assert_int_equal(got->layers[i].sealed, want->layers[i].sealed);
		assert_int_equal(got->layers[i].changes, want->layers[i].changes);
		assert_int_equal(got->layers[i].bytes, want->layers[i].bytes);
	}
	assert_int_equal(got->n_snapshots, want->n_snapshots);
	for (size_t i = 0; i < want->n_snapshots; i++) {
		assert_int_equal(got->snapshots[i].layer, want->snapshots[i].layer);
		assert_true(got->snapshots[i].time == want->snapshots[i].time);
		assert_string_equal(got->snapshots[i].name, want->snapshots[i].name);
	}
}

static void what_is_written_is_read(void **state)
{
	struct place *p = *state;
	struct manifest m, copy, read;

	fill(&m);
	assert_int_equal(manifest_write(p->fd, &m), 0);
	assert_int_equal(manifest_read(p->fd, "session/manifest", &p->log, &read), 0);
	expect_same(&read, &m);
	assert_int_equal(manifest_copy(&m, &copy), 0);
	expect_same(&copy, &m);
	manifest_fini(&copy);
	manifest_fini(&read);
	manifest_fini(&m);
	assert_int_equal(p->n_errors, 0);
	assert_false(place_has(p->fd, "manifest.new"));
}

static void a_missing_one_is_left_to_the_caller(void **state)
{
	struct place *p = *state;
	struct manifest m;

	assert_int_equal(manifest_read(p->fd, "session/manifest", &p->log, &m), -ENOENT);
	assert_int_equal(p->n_errors, 0);
}

static void expect_refused(struct place *p, const unsigned char *bytes, size_t len, const char *what, size_t at)
{
	struct manifest m;
	int r;

	place_forget_lines(p);
	place_put(p->fd, "manifest", bytes, len);
	r = manifest_read(p->fd, "session/manifest", &p->log, &m);
	if (r == 0)
		fail_msg("%s %zu: accepted", what, at);
	expect_status(r, -EUCLEAN, "%s %zu", what, at);
	assert_int_equal(p->n_errors, 1);
	assert_non_null(strstr(p->lines, "session/manifest: "));
}

static void every_cut_and_every_flipped_bit_is_refused(void **state)
{
	struct place *p = *state;
	unsigned char *bytes;
	struct manifest m;
	size_t len;

	fill(&m);
	assert_int_equal(manifest_write(p->fd, &m), 0);
	manifest_fini(&m);
	bytes = place_get(p->fd, "manifest", &len);
	for (size_t cut = 0; cut < len; cut++)
		expect_refused(p, bytes, cut, "cut at", cut);
	for (size_t bit = 0; bit < len * 8; bit++) {
		bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
		expect_refused(p, bytes, len, "flipped bit", bit);
		bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	free(bytes);
}

static void put_text(struct place *p, const char *body)
{
	char text[2048];
	int len = snprintf(text, sizeof(text), "%s", body);

	len += snprintf(text + len, sizeof(text) - (size_t)len, "end %016llx\n",
	                (unsigned long long)checksum64(text, (size_t)len, 0));
	place_put(p->fd, "manifest", text, (size_t)len);
}

#define HEAD "umlfs manifest 1\nbase 0000000000000000000000000000000a /b\nnext ino 5 serial 1 layer 4\n"

#define NUMBERS(ino, serial, layer)                                                                                    \
	"umlfs manifest 1\nbase 0000000000000000000000000000000a /b\nnext ino " ino " serial " serial " layer " layer  \
	"\ntop 1\nlayer 1 parent 0 sealed 0 changes 0 bytes 0\n"

static void contradictions_are_refused(void **state)
{
	static const char *const cases[] = {
		HEAD "top 1\n",                                              /* the top is no layer */
		HEAD "top 1\nlayer 1 parent 0 sealed 9 changes 0 bytes 0\n", /* a sealed top */
		HEAD "top 1\nlayer 1 parent 2 sealed 0 changes 0 bytes 0\n", /* a parent that is not there */
		HEAD "top 1\nlayer 1 parent 1 sealed 0 changes 0 bytes 0\n", /* its own parent */
		HEAD "top 4\nlayer 4 parent 0 sealed 0 changes 0 bytes 0\n", /* a number not given yet */
		HEAD "top 1\nlayer 1 parent 0 sealed 0 changes 0 bytes 0\nsnapshot 1 0 x\n", /* the top named */
		HEAD "top 1\nlayer 1 parent 0 sealed 0 changes 0 bytes 0\nsnapshot 2 0 x\n", /* a name for nothing */
		HEAD
		"top 2\nlayer 1 parent 0 sealed 0 changes 0 bytes 0\nlayer 2 parent 0 sealed 0 changes 0 bytes 0\n",
		HEAD
		"top 1\nlayer 1 parent 0 sealed 0 changes 0 bytes 0\nlayer 1 parent 0 sealed 0 changes 0 bytes 0\n",
		HEAD "top 1\nlayer 1 parent 0 sealed 0 changes 0 bytes 0\nwhat is this\n",
		HEAD "top 1\nlayer 1 parent 0 sealed 0 changes 0 bytes 0\n\ntop 1\n",
		HEAD "top 2\nlayer 1 parent 0 sealed 9 changes 0 bytes 0\nlayer 2 parent 1 sealed 0 changes 0 bytes 0\n"
		     "snapshot 1 0 x\nsnapshot 1 0 x\n",
		HEAD "top 2\nlayer 1 parent 0 sealed 9 changes 0 bytes 0\nlayer 2 parent 1 sealed 0 changes 0 bytes 0\n"
		     "snapshot 1 0 %00\n",
		NUMBERS("0", "1", "4"),
		NUMBERS("72057594037927937", "1", "4"), /* 2^56 + 1 */
		NUMBERS("18446744073709551615", "1", "4"),
		NUMBERS("18446744073709551621", "1", "4"), /* 5, to who does not look at the whole of it */
		NUMBERS("5", "0", "4"),
		NUMBERS("5", "72057594037927937", "4"),
		NUMBERS("5", "18446744073709551615", "4"),
		NUMBERS("5", "1", "2147483649"),
		NUMBERS("5", "1", "4294967295"),
		NUMBERS("5", "1", "4294967300"),
		NUMBERS("05", "1", "4"),
		NUMBERS("5", "1", "4 ino 6"),
		HEAD "top 1\nlayer 4294967297 parent 0 sealed 0 changes 0 bytes 0\n",
		HEAD "top 1\nlayer 1 parent 0 sealed 0 changes 0 bytes 0\ntop 1\n",
	};
	struct place *p = *state;
	struct manifest m;

	put_text(p, HEAD "top 1\nlayer 1 parent 0 sealed 0 changes 0 bytes 0\n");
	assert_int_equal(manifest_read(p->fd, "session/manifest", &p->log, &m), 0);
	manifest_fini(&m);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		put_text(p, cases[i]);
		expect_status(manifest_read(p->fd, "session/manifest", &p->log, &m), -EUCLEAN, "case %zu:\n%s", i,
		              cases[i]);
	}
}

static void a_newer_version_is_told_from_damage(void **state)
{
	struct place *p = *state;
	struct manifest m;

	put_text(p, "umlfs manifest 2\nwhatever\n");
	assert_int_equal(manifest_read(p->fd, "session/manifest", &p->log, &m), -EPROTONOSUPPORT);
	assert_non_null(strstr(p->lines, "session/manifest: made by a newer umlfs (version 2)"));
}

static void prune_keeps_what_something_stands_on(void **state)
{
	struct manifest m;

	fill(&m);
	manifest_prune(&m);
	assert_int_equal(m.n_layers, 4);
	assert_ptr_equal(manifest_standing(&m, 8), &m.snapshots[0]);
	for (size_t i = m.n_snapshots; i-- > 0;) {
		if (m.snapshots[i].layer == 4)
			manifest_remove_snapshot(&m, i);
	}
	manifest_prune(&m);
	assert_null(manifest_layer(&m, 4));
	while (m.n_snapshots > 0)
		manifest_remove_snapshot(&m, 0);
	manifest_prune(&m);
	assert_int_equal(m.n_layers, 3); /* the top stands on 3, and that on 1 */
	assert_null(manifest_standing(&m, 8));
	m.top = 3;
	manifest_prune(&m);
	assert_int_equal(m.n_layers, 2);
	manifest_fini(&m);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_written_is_read),
		TEST(a_missing_one_is_left_to_the_caller),
		TEST(every_cut_and_every_flipped_bit_is_refused),
		TEST(contradictions_are_refused),
		TEST(a_newer_version_is_told_from_damage),
		TEST(prune_keeps_what_something_stands_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
