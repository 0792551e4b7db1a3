/*
 * control_socket: the daemon's side of session/control.
 *
 * A client connects, writes a request, closes its writing side, and reads the answer up to the end. On the
 * wire a request is the verb, "0" or "1" for force, and the name, each with a NUL; the answer is lines: "E
 * text", "W text" and "N text" for errors, warnings and notes, "D text" for data, and "R number" last, 0 or a
 * negative errno.
 */
#pragma once

#include <stdio.h>
#include <sys/types.h>

#include "umlfs/log.h"
#include "umlfs/request.h"

enum { CONTROL_REQUEST_MAX = 512 }; /* bytes of a request */

/* Listens on dirfd/control, which must not be there yet; the path may be of any length: the descriptor, or -errno. */
int control_listen(int dirfd);

/* Connects: -ENOTCONN when nobody listens there. */
int control_connect(int dirfd);

struct control_client;

/* The next client that may ask, -EACCES for others, which are closed, -EAGAIN when there is none. */
int control_accept(int listen_fd, struct control_client **out);
int control_client_fd(const struct control_client *c);

/*
 * Reads what is there: 1 when the request is whole (*out then borrows from c), 0 when more must come, -errno
 * when it is none.
 */
int control_receive(struct control_client *c, struct request *out);

/* Adds lines of data to the answer; and a log whose lines become part of it. */
void control_data(struct control_client *c, const char *text);
struct log control_log(struct control_client *c);

/* Ends the answer with its status. */
int control_finish(struct control_client *c, int status);

/* Sends what fits: 1 when everything is sent, 0 when the client must read first, -errno when it went. */
int control_send(struct control_client *c);
void control_client_free(struct control_client *c);

/* The client's side: the request's bytes, and their number. A name that snapshot_check_name() lets pass has room; "" is NULL. */
size_t control_encode(const struct request *request, char bytes[CONTROL_REQUEST_MAX]);
