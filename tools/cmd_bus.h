/* cmd_bus: the end of a process whose mapped file was cut short, or cannot be read any more. */
#pragma once

/*
 * From now on a fault of a mapped file (SIGBUS, see mmap(2)) says which file it was on standard error and ends the process with
 * EXIT_FAILED, at once and whatever it was about: as when it is killed, nothing is left to it but what is on disk.
 * SIGBUS from another process kills as ever.
 */
void cmd_catch_bus(void);
