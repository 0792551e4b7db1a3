/*
 * crash: owns the actions of the signals that dump core, while a daemon serves.
 * Invariant: the signal ends the process as it would have done without.
 * Called by serve.
 */
#include "crash.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "unmounter.h"

static const int numbers[] = {SIGSEGV, SIGABRT, SIGILL, SIGFPE};

enum { NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };

static struct sigaction before[NUMBERS];
static volatile sig_atomic_t device_fd, unmounter_fd;
static int silent[2] = {-1, -1}; /* a socket that nobody sends to, and hears what is sent */

static void restore(void)
{
	for (size_t i = 0; i < NUMBERS; i++)
		sigaction(numbers[i], &before[i], NULL);
}

/* A thread that shares no descriptors with the others cannot let go of them: the first one does it, and the signal ends both. */
static void leave_to_first_thread(int number)
{
	tgkill(getpid(), getpid(), number);
	for (;;)
		pause();
}

/*
 * The device's number must stay taken: other threads go on for a moment. A fault comes again when this returns; what somebody sent
 * does not.
 */
static void let_go(int number, siginfo_t *info, void *context)
{
	if (fcntl(silent[0], F_GETFD) < 0 && gettid() != getpid())
		leave_to_first_thread(number);
	restore();
	unmounter_alarm(unmounter_fd);
	dup2(silent[0], device_fd);
	if (info->si_code <= 0)
		raise(number);
}

int crash_prepare(int device, int unmounter)
{
	struct sigaction action = {.sa_sigaction = let_go, .sa_flags = SA_SIGINFO | SA_NODEFER};

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, silent) < 0)
		return -errno;
	device_fd = device;
	unmounter_fd = unmounter;
	for (size_t i = 0; i < NUMBERS; i++) {
		sigaction(numbers[i], NULL, &before[i]);
		/* Inherited: it would let the process live on without its mount. */
		if (before[i].sa_handler == SIG_IGN)
			before[i].sa_handler = SIG_DFL;
		sigaction(numbers[i], &action, NULL);
	}
	return 0;
}

void crash_forget(void)
{
	if (silent[0] < 0)
		return;
	restore();
	silent[0] = close_fd(silent[0]);
	silent[1] = close_fd(silent[1]);
}
