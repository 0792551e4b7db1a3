/*
 * unit_uml: promises of uml, about versions and processors.
 * Invariant: runs no kernel.
 * Called by meson test.
 */
#include "umlfs/uml.h"

#include "unit.h"

static void versions_are_read(void **state)
{
	static const struct {
		const char *text, *kept;
		int major, minor;
	} good[] = {
		{"6.1.176\n", "6.1.176", 6, 1},
		{"7.2.0-rc3+\nmore\n", "7.2.0-rc3+", 7, 2},
		{"6.13\n", "6.13", 6, 13},
		{"5.10-um", "5.10-um", 5, 10},
	};
	static const char *const bad[] = {
		"", "\n", "linux 6.1\n", "6\n", "6.x\n", "6.1 (GNU coreutils)\n", "cat (GNU coreutils) 9.1\n", "-6.1\n",
	};
	struct uml_version version;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(uml_parse_version(good[i].text, &version), 0);
		assert_string_equal(version.text, good[i].kept);
		assert_int_equal(version.major, good[i].major);
		assert_int_equal(version.minor, good[i].minor);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(uml_parse_version(bad[i], &version), -EINVAL);
}

static void old_kernels_need_help_on_large_processors(void **state)
{
	static const char avx512[] = "model name\t: x\nflags\t\t: fpu avx avx512f avx512cd\nbugs\t\t: a\n";
	static const char amx[] = "flags\t\t: fpu avx2 amx_tile\n";
	static const char small[] =
		"model name\t: avx512 amx_\nflags\t\t: fpu avx avx2 xavx512f\nbugs\t\t: avx512 amx_tile\n";
	static const struct {
		const char *text;
		bool old;
	} versions[] = {{"5.10.1", true}, {"6.1.176", true}, {"6.12.9", true},
	                {"6.13", false},  {"6.20", false},   {"7.0", false}};

	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		struct uml_version version;

		assert_int_equal(uml_parse_version(versions[i].text, &version), 0);
		assert_int_equal(uml_needs_preload(&version), versions[i].old);
		assert_int_equal(uml_needs_xstate(&version, avx512), versions[i].old);
		assert_int_equal(uml_needs_xstate(&version, amx), versions[i].old);
		assert_false(uml_needs_xstate(&version, small));
		assert_false(uml_needs_xstate(&version, ""));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(versions_are_read),
		cmocka_unit_test(old_kernels_need_help_on_large_processors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
