/* programs: where this machine has them. */
#pragma once

/*
 * The absolute path, on the heap, of a program that is named by a path, or that execvp(3) would find in PATH. NULL with
 * errno: ENOENT when there is none, EACCES when it may not be run.
 */
char *programs_find(const char *name);
