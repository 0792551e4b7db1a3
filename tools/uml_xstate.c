/*
 * LD_PRELOAD library for UML kernels before 6.13: for hosts whose registers are larger than they know, and for guests whose
 * processes must not live on when the kernel is killed.
 *
 * Owns the ptrace() symbol and nothing else. These kernels restore a guest process's registers from a buffer
 * of fixed size (6.1: 2696 bytes, enough for AVX-512 but not for AMX; older ones less). The host's
 * PTRACE_SETREGSET(NT_X86_XSTATE) takes its whole area or nothing (EFAULT), so the guest panics at its first
 * process: "ptrace set fp regs failed, errno = 14". Here a refused short area is laid over the start of the
 * process's present full one, and that is set.
 *
 * These kernels trace the guest's processes without PTRACE_O_EXITKILL (ptrace(2)): when such a kernel is killed, what the
 * guest ran goes on as a program of the host, whose system calls the host's kernel answers. Here the option is always set.
 *
 * Invariant: every other call, and every area that the host accepts, goes through unchanged; so the library
 * is harmless where it is not needed.
 *
 * For whoever starts such a kernel: LD_PRELOAD=DIR/libumlfs-xstate.so linux.uml ...
 *
 * Limit: registers beyond the short area stay with the host process, so guest threads of one process share
 * them.
 */
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

/* PTRACE_OLDSETOPTIONS of <linux/ptrace.h>, which kernels up to 6.1 use. */
#define OLD_SETOPTIONS 21

/* AMX, the largest so far, needs 11008 bytes. */
#define XSTATE_MAX 32768

static long xstate_call(enum __ptrace_request request, pid_t pid, struct iovec *area)
{
	return syscall(SYS_ptrace, (long)request, (long)pid, (long)NT_X86_XSTATE, area);
}

static long xstate_set_over_present(pid_t pid, const struct iovec *part)
{
	/* Not on the stack, which is a guest kernel's of 8 or 16 KiB; these kernels have one thread. */
	static unsigned char bytes[XSTATE_MAX];
	struct iovec full = {.iov_base = bytes, .iov_len = sizeof(bytes)};

	if (xstate_call(PTRACE_GETREGSET, pid, &full) < 0)
		return -1;
	if (part->iov_len >= full.iov_len || full.iov_len == sizeof(bytes)) {
		errno = EFAULT; /* refused for another reason, or ours is cut off as well */
		return -1;
	}
	memcpy(bytes, part->iov_base, part->iov_len);
	return xstate_call(PTRACE_SETREGSET, pid, &full);
}

/* The C library's ptrace(), see ptrace(2): the three PEEK requests return the word itself. */
static long ptrace_plain(enum __ptrace_request request, pid_t pid, void *addr, void *data)
{
	long word = 0;
	long r;

	if (request != PTRACE_PEEKTEXT && request != PTRACE_PEEKDATA && request != PTRACE_PEEKUSER)
		return syscall(SYS_ptrace, (long)request, (long)pid, addr, data);
	r = syscall(SYS_ptrace, (long)request, (long)pid, addr, &word);
	if (r < 0)
		return r;
	errno = 0;
	return word;
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list ap;

	va_start(ap, request);
	pid_t pid = va_arg(ap, pid_t);
	void *addr = va_arg(ap, void *);
	void *data = va_arg(ap, void *);
	va_end(ap);

	if (request == PTRACE_SETOPTIONS || (int)request == OLD_SETOPTIONS)
		data = (void *)((uintptr_t)data | PTRACE_O_EXITKILL);
	long r = ptrace_plain(request, pid, addr, data);
	if (r < 0 && errno == EFAULT && request == PTRACE_SETREGSET && (unsigned long)addr == NT_X86_XSTATE)
		return xstate_set_over_present(pid, data);
	return r;
}
