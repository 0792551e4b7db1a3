/* mconsole: asks a UML kernel over its management console's socket. */
#pragma once

#include <stddef.h>

/*
 * Connects to the socket (path; its directory's name may be long). 0 or -errno: -ENOENT there is none,
 * -ECONNREFUSED its kernel has ended.
 */
int mconsole_connect(const char *path, int *fd_out);

/*
 * Sends a command of the kernel's documentation (virt/uml/user_mode_linux_howto_v2, "The Management Console") and waits for
 * the answer. *text_out: what it said, on the heap. -ETIMEDOUT: no answer within some seconds; -EPROTO: the kernel
 * refused, *text_out says why, and is set then too.
 */
int mconsole_ask(int fd, const char *command, char **text_out);
