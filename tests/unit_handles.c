/*
 * unit_handles: promises of handles.
 * Invariant: every descriptor given away is closed by handles alone, and is then closed.
 * Called by meson test.
 */
#include "handles.h"

#include <fcntl.h>
#include <unistd.h>

#include "unit.h"

static int some_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static int is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void handles_are_bounded_and_the_oldest_goes(void **state)
{
	struct handles *h;
	int fds[40];

	assert_int_equal(handles_new(10, &h), 0);
	for (uint64_t ino = 0; ino < 10; ino++) {
		fds[ino] = some_fd();
		assert_int_equal(handles_add(h, 1, ino, fds[ino]), 0);
	}
	assert_int_equal(handles_get(h, 1, 0), fds[0]); /* used again: 1 is the oldest now */
	for (uint64_t ino = 10; ino < 19; ino++) {
		fds[ino] = some_fd();
		assert_int_equal(handles_add(h, 1, ino, fds[ino]), 0);
		assert_int_equal(handles_count(h), 10);
		assert_int_equal(handles_get(h, 1, ino - 9), -1);
	}
	assert_int_equal(handles_get(h, 1, 0), fds[0]);
	assert_true(is_open(fds[0]));
	handles_free(h);
	assert_false(is_open(fds[0]));
	assert_false(is_open(fds[18]));
}

static void a_borrowed_handle_outlives_three_adds(void **state)
{
	struct handles *h;

	assert_int_equal(handles_new(0, &h), 0); /* at least 4 */
	for (uint64_t ino = 0; ino < 20; ino++) {
		int fd = some_fd();

		assert_int_equal(handles_add(h, 2, ino, fd), 0);
		assert_int_equal(handles_get(h, 2, ino), fd);
		for (uint64_t more = 1; more <= 3; more++)
			assert_int_equal(handles_add(h, 3, ino * 10 + more, some_fd()), 0);
		assert_true(is_open(fd));
		assert_int_equal(handles_get(h, 2, ino), fd);
	}
	assert_true(handles_count(h) <= 4);
	handles_free(h);
}

static void drop_closes_one_or_a_whole_layer(void **state)
{
	struct handles *h;
	int fds[6];

	assert_int_equal(handles_new(16, &h), 0);
	for (unsigned int i = 0; i < 6; i++) {
		fds[i] = some_fd();
		assert_int_equal(handles_add(h, i % 2, 100 + i / 2, fds[i]), 0);
	}
	handles_drop(h, 0, 100);
	handles_drop(h, 0, 999);
	assert_false(is_open(fds[0]));
	assert_int_equal(handles_get(h, 0, 100), -1);
	handles_drop_layer(h, 1);
	for (unsigned int i = 1; i < 6; i++)
		assert_int_equal(is_open(fds[i]), i % 2 == 0);
	assert_int_equal(handles_count(h), 2);
	assert_int_equal(handles_get(h, 0, 101), fds[2]);
	handles_free(h);
}

static void a_layer_and_a_number_are_told_apart(void **state)
{
	struct handles *h;
	int a = some_fd(), b = some_fd(), c = some_fd();

	assert_int_equal(handles_new(8, &h), 0);
	assert_int_equal(handles_add(h, 1, UINT64_C(2) << 40, a), 0);
	assert_int_equal(handles_add(h, 2, UINT64_C(1) << 40, b), 0); /* the same hash */
	assert_int_equal(handles_add(h, 0, UINT64_C(3) << 40, c), 0);
	assert_int_equal(handles_get(h, 1, UINT64_C(2) << 40), a);
	assert_int_equal(handles_get(h, 2, UINT64_C(1) << 40), b);
	assert_int_equal(handles_get(h, 0, UINT64_C(3) << 40), c);
	handles_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(handles_are_bounded_and_the_oldest_goes),
		cmocka_unit_test(a_borrowed_handle_outlives_three_adds),
		cmocka_unit_test(drop_closes_one_or_a_whole_layer),
		cmocka_unit_test(a_layer_and_a_number_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
