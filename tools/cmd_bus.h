/* cmd_bus: the end of a process whose mapped file was cut short, or cannot be read any more. */
#pragma once

/*
 * From now on a fault of a mapped file (SIGBUS, see mmap(2)) says on standard error which file it was and what has ended ("this
 * command"), and ends the process with this status, at once and whatever it was about: as when it is killed, nothing is left to it
 * but what is on disk. SIGBUS from another process kills as ever.
 */
void cmd_catch_bus(const char *what, int status);

/* A file, or a directory with all in it, that goes then; NULL: none. */
void cmd_bus_remove(const char *path);
