/* proc: what the kernel says of a process in /proc: see proc(5). */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The text of a small file; empty when it is not there. */
void proc_read(const char *path, char *text, size_t size);

/* A number of /proc/PID/stat, a thread's too: field 4 or above, counted from 1. -1: there is no such process or field. */
int64_t proc_stat(pid_t pid, int field);
