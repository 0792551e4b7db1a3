/*
 * unit_commit: promises of commit: an fsync(2) is done when a manifest is on disk that names what it asked for, whatever is
 * committed meanwhile.
 * Invariant: what happens meanwhile happens right before a sync of the host, each of them in turn.
 * Called by meson test, linked with --wrap=fsync and --wrap=syncfs.
 */
#include <limits.h>
#include <unistd.h>

#include "unit.h"
#include "unit_world.h"

/* What is called before sync number `left` from now; NULL: nothing. */
static struct {
	void (*call)(struct world *w);
	struct world *w;
	unsigned int left;
	int error; /* what that sync then answers; 0: what it does */
} meanwhile;

static unsigned int n_syncs;
static char synced[16][PATH_MAX]; /* what the first of them were of */

static int happen(int fd)
{
	void (*call)(struct world * w) = meanwhile.call;
	char link[32];
	char *path = synced[n_syncs++ % ARRAY_LEN(synced)];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, PATH_MAX - 1);
	assert_true(len > 0);
	path[len] = '\0';
	if (!call || meanwhile.left-- > 0)
		return 0;
	meanwhile.call = NULL;
	call(meanwhile.w);
	errno = meanwhile.error;
	return meanwhile.error ? -1 : 0;
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	return happen(fd) < 0 ? -1 : __real_fsync(fd);
}

int __real_syncfs(int fd);
int __wrap_syncfs(int fd);
int __wrap_syncfs(int fd)
{
	return happen(fd) < 0 ? -1 : __real_syncfs(fd);
}

static int nothing(void **state)
{
	meanwhile.call = NULL;
	return 0;
}

static struct snapshot_change late; /* what is left to do of what happened meanwhile */

static void snapshot(struct world *w)
{
	expect_status(snapshot_create(w->store, "meanwhile", &w->place.log, &late), 0, "snapshot: %s", w->place.lines);
}

/* And its layers go at once. */
static void reset(struct world *w)
{
	world_reset(w, SNAPSHOT_BASE);
}

static int sync_last(struct world *w)
{
	struct session *s = &w->store->session;

	n_syncs = 0;
	return commit_sync_last(&s->commit, s->dirfd, s->layersfd);
}

static bool is_pending(struct world *w)
{
	return commit_pending(&w->store->session.commit);
}

/* A session whose manifest waits for its sync: as it was made, or with a layer that was sealed. */
static struct world *make(bool sealed)
{
	struct world *w = world_new(NULL);
	struct snapshot_change change;

	if (sealed) {
		assert_int_equal(sync_last(w), 0);
		expect_status(snapshot_create(w->store, "one", &w->place.log, &change), 0, "%s", w->place.lines);
		assert_int_equal(change.n_gone + change.n_dropped, 0);
	}
	assert_true(is_pending(w));
	return w;
}

static void drop(struct world *w)
{
	void *state = w;

	world_teardown(&state);
}

/* How many syncs it takes when nothing happens. */
static unsigned int count(bool sealed)
{
	struct world *w = make(sealed);

	assert_int_equal(sync_last(w), 0);
	assert_false(is_pending(w));
	drop(w);
	assert_true(n_syncs > 0);
	return n_syncs;
}

static void try_each(void (*call)(struct world *w), int error)
{
	for (int sealed = 0; sealed < 2; sealed++) {
		unsigned int n = count(sealed);

		for (unsigned int nr = 0; nr < n; nr++) {
			struct world *w = make(sealed);

			meanwhile.call = call;
			meanwhile.w = w;
			meanwhile.left = nr;
			meanwhile.error = error;
			expect_status(sync_last(w), 0, "sync %u of %u", nr, n);
			assert_null(meanwhile.call);
			assert_false(is_pending(w));
			if (call == snapshot)
				assert_int_equal(snapshot_clean_up(&w->store->session, &late), 0);
			drop(w);
		}
	}
}

static void a_manifest_that_is_made_meanwhile_is_synced_too(void **state)
{
	try_each(snapshot, 0);
}

static void a_layer_that_goes_meanwhile_is_no_failure(void **state)
{
	try_each(reset, 0);
}

static void a_failure_that_another_manifest_makes_good_is_none(void **state)
{
	try_each(snapshot, EIO);
}

static void nothing_happens(struct world *w)
{
}

static void a_failure_is_answered_and_the_old_manifest_stays(void **state)
{
	struct world *w = make(true);

	meanwhile.call = nothing_happens;
	meanwhile.left = 0;
	meanwhile.error = EIO;
	assert_int_equal(sync_last(w), -EIO);
	assert_true(is_pending(w));
	assert_true(place_has(w->place.fd, "session/manifest.old"));
	assert_int_equal(sync_last(w), 0);
	assert_false(place_has(w->place.fd, "session/manifest.old"));
	drop(w);
}

static void a_manifest_that_is_made_meanwhile_keeps_the_old_one(void **state)
{
	struct world *w = make(true);
	struct session *s = &w->store->session;

	meanwhile.call = snapshot;
	meanwhile.w = w;
	meanwhile.left = 0;
	meanwhile.error = 0;
	assert_int_equal(commit_sync(&s->commit, s->dirfd, s->layersfd, commit_made(&s->commit), s->manifest.top), 0);
	assert_null(meanwhile.call);
	assert_true(is_pending(w));
	assert_true(place_has(w->place.fd, "session/manifest.old"));
	assert_int_equal(snapshot_clean_up(s, &late), 0);
	drop(w);
}

/* A reset's clean-up waits until the kernel was told, so that one of a later change may come before it. */
static void whatever_change_is_cleaned_up_first_nothing_of_them_is_left(void **state)
{
	for (unsigned int first = 0; first < 2; first++) {
		struct world *w = make(true);
		struct session *s = &w->store->session;
		struct snapshot_change changes[2];
		char layer[40];

		for (size_t i = 0; i < ARRAY_LEN(changes); i++)
			expect_status(snapshot_reset(w->store, "one", &w->place.log, &changes[i]), 0, "%s",
			              w->place.lines);
		expect_status(snapshot_clean_up(s, &changes[first]), 0, "the first clean-up");
		expect_status(snapshot_clean_up(s, &changes[!first]), 0, "the second clean-up");
		assert_false(place_has(w->place.fd, "session/manifest.old"));
		for (uint32_t id = 1; id <= s->manifest.top; id++) {
			snprintf(layer, sizeof(layer), "session/layers/%u", id);
			if (place_has(w->place.fd, layer) != (manifest_layer(&s->manifest, id) != NULL))
				fail_msg("%s, with change %u first", layer, first);
		}
		drop(w);
	}
}

static void a_manifest_comes_to_the_disk_behind_the_layer_that_it_names(void **state)
{
	static const char *const want[] = {"/layers/2/journal", "/layers/2", "/layers", "/manifest", ""};
	struct world *w = make(false);

	assert_int_equal(sync_last(w), 0);
	expect_status(snapshot_reset(w->store, SNAPSHOT_BASE, &w->place.log, &late), 0, "reset: %s", w->place.lines);
	assert_int_equal(sync_last(w), 0);
	assert_int_equal(n_syncs, ARRAY_LEN(want));
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		assert_int_equal(strncmp(synced[i], w->session, strlen(w->session)), 0);
		assert_string_equal(synced[i] + strlen(w->session), want[i]);
	}
	assert_int_equal(snapshot_clean_up(&w->store->session, &late), 0);
	drop(w);
}

#define TEST(name) cmocka_unit_test_setup(name, nothing)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_manifest_that_is_made_meanwhile_is_synced_too),
		TEST(a_layer_that_goes_meanwhile_is_no_failure),
		TEST(a_failure_that_another_manifest_makes_good_is_none),
		TEST(a_failure_is_answered_and_the_old_manifest_stays),
		TEST(a_manifest_that_is_made_meanwhile_keeps_the_old_one),
		TEST(a_manifest_comes_to_the_disk_behind_the_layer_that_it_names),
		TEST(whatever_change_is_cleaned_up_first_nothing_of_them_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
