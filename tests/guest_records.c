/*
 * guest_records: writes numbered records through a shared mapping for as long as it runs, never syncing, and prints "ready".
 *
 * Record n goes to place n * 7919 mod PLACES, which goes around all pages; so a file is as of one moment when each place
 * holds the last number that belongs there up to the largest of all.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PLACES = 1 << 16, STEP = 7919 };

int main(int argc, char **argv)
{
	int fd = argc > 1 ? open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0644) : -1;
	volatile uint64_t *at;

	if (fd < 0 || ftruncate(fd, PLACES * sizeof(*at)) < 0)
		return 1;
	at = mmap(NULL, PLACES * sizeof(*at), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED || write(STDOUT_FILENO, "ready\n", 6) != 6)
		return 1;
	for (uint64_t n = 1;; n++)
		at[n * STEP % PLACES] = n;
}
