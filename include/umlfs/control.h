/*
 * control: asks something of a session, whether a daemon serves it or not.
 *
 * With a daemon the request goes through the socket session/control, which only the daemon's own user and
 * root may use; without one the session is locked and the same code runs in the caller.
 * What programs of the host wrote through shared mappings (mmap(2)) before a snapshot, a reset or a seal belongs to the state
 * that it ends, unless the mount is in another mount namespace, root asks for another user's, or it takes over ten seconds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "umlfs/log.h"
#include "umlfs/request.h"

/*
 * True when the directory `path` has what a session has, and is no imported base, whose files may have the same names. False
 * also where nobody may look.
 */
bool control_is_session(const char *path);

/*
 * Carries the request out. *text_out gets what LIST and STATUS answer, lines of a word and its value, on the
 * heap, else an empty text.
 *
 * Errors are written to log: -ENOENT no such session or snapshot, -EEXIST, -EINVAL for a name, -EBUSY the
 * session is in use, -EUCLEAN damage, -EACCES the daemon is another user's, -EPIPE the daemon ended or hung up before it had
 * answered, so that nobody can say whether it did what was asked, and what the host answers.
 */
int control_request(const char *session, const struct request *request, const struct log *log, char **text_out);

/*
 * Asks the daemon to seal the present state (REQUEST_SEAL): the number of its layer. -ENOTCONN, which is not logged, when
 * there is no daemon, or no session; -EPROTO when the daemon is of another version and answers something else; and the errors
 * of control_request().
 */
int control_seal(const char *session, const struct log *log, uint32_t *layer_out);
