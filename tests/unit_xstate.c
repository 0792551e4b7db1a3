/*
 * unit_xstate: promises of libumlfs-xstate.so, on a real process of this processor.
 * Invariant: the kernel itself refuses what the library is for; else the test says nothing.
 * Called by meson test.
 */
#include "unit.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { XMM0 = 160, XSTATE_BV = 512, SSE = 2, AREA_MAX = 1 << 15 };

/* The plain system call, without the library that this program is linked with. */
static long plain(int request, pid_t pid, struct iovec *area)
{
	return syscall(SYS_ptrace, (long)request, (long)pid, (long)NT_X86_XSTATE, area);
}

static pid_t start_traced(void)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	return pid;
}

static struct iovec registers(pid_t pid, unsigned char *bytes)
{
	struct iovec area = {.iov_base = bytes, .iov_len = AREA_MAX};

	assert_int_equal(plain(PTRACE_GETREGSET, pid, &area), 0);
	assert_int_in_range(area.iov_len, XSTATE_BV + 64 + 8, AREA_MAX - 1);
	return area;
}

static void a_short_area_is_laid_over_the_present_one(void **state)
{
	static unsigned char before[AREA_MAX], after[AREA_MAX];
	pid_t pid = start_traced();
	struct iovec whole = registers(pid, before);
	struct iovec part = {.iov_base = before, .iov_len = whole.iov_len - 8};

	memset(before + XMM0, 0x5a, 16);
	before[XSTATE_BV] |= SSE;
	assert_int_equal(plain(PTRACE_SETREGSET, pid, &part), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &part), 0);
	assert_int_equal(registers(pid, after).iov_len, whole.iov_len);
	assert_memory_equal(after, before, whole.iov_len);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void everything_else_is_as_without_it(void **state)
{
	static unsigned char bytes[AREA_MAX];
	pid_t pid = start_traced();
	struct iovec whole = registers(pid, bytes);
	long word = 0x1234567890abcdefL;

	assert_int_equal(ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &whole), 0);
	assert_int_equal(ptrace(PTRACE_POKEDATA, pid, bytes, word), 0);
	assert_true(ptrace(PTRACE_PEEKDATA, pid, bytes, NULL) == word);
	errno = 0;
	assert_int_equal(ptrace(PTRACE_PEEKDATA, pid, NULL, NULL), -1);
	assert_int_equal(errno, EIO);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &whole), -1);
	assert_int_equal(errno, ESRCH);
}

/* Set free, it would write. */
static _Noreturn void trace_and_exit(int fd)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(write(fd, "free", 4) != 4);
	}
	_exit(waitpid(pid, &status, 0) != pid || ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD) < 0);
}

static void a_traced_process_dies_with_its_tracer(void **state)
{
	char text[8];
	int fds[2], status;
	pid_t tracer;

	assert_int_equal(pipe(fds), 0);
	tracer = fork();
	assert_true(tracer >= 0);
	if (tracer == 0)
		trace_and_exit(fds[1]);
	close(fds[1]);
	assert_int_equal(waitpid(tracer, &status, 0), tracer);
	assert_int_equal(status, 0);
	assert_int_equal(read(fds[0], text, sizeof(text)), 0);
	close(fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_short_area_is_laid_over_the_present_one),
		cmocka_unit_test(everything_else_is_as_without_it),
		cmocka_unit_test(a_traced_process_dies_with_its_tracer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
