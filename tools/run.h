/* run: what the parts of the program umlfs-run share. */
#pragma once

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include "cmd.h"
#include "umlfs/log.h"
#include "umlfs/uml.h"

/* Exit statuses besides the command's own; 126 and 127 come from the guest. */
enum { RUN_TIMEOUT = 124, RUN_FAILED = 125 };

enum run_keep { RUN_KEEP_NEVER, RUN_KEEP_ON_FAILURE, RUN_KEEP_ALWAYS };

/* Words that an option may give more than once. */
struct run_words {
	const char **at;
	size_t n;
};

struct run_options {
	const char *place; /* BASE or SESSION */
	char **command;    /* NULL behind the last; command[0] NULL: a shell */
	const char *kernel, *mem, *append, *init, *snapshot, *chdir, *user, *log_path;
	struct run_words env, shares, files; /* shares and files as they were given, HOST:GUEST */
	int64_t timeout_ms;                  /* 0: none */
	enum run_keep keep;
	int json_fd; /* or -1 */
	bool tty, raid, dry_run, verbose;
};

struct run_share {
	char *host;        /* absolute, on the heap */
	const char *guest; /* absolute, without the option's ":ro" or ":rw" in `guest_len` bytes */
	int guest_len;
	bool read_only;
};

/* What the options mean on this machine. */
struct run_plan {
	const struct run_options *options;
	char *kernel;
	struct uml_version version;
	char *preload; /* libumlfs-xstate.so, or NULL */
	char *init;    /* umlfs-init */
	const char *memory_dir;
	char *base;    /* absolute */
	char *session; /* absolute, or NULL: a throw-away one */
	bool mounted;  /* SESSION is mounted already, at mountpoint */
	char *mountpoint;
	struct run_share *shares, *files;
	bool terminal;                   /* the command gets the terminal */
	unsigned short rows, cols;       /* the terminal's */
	bool apart;                      /* standard error goes elsewhere than standard output */
	bool input_piped;                /* the command reads this program's standard input, which is no terminal */
	bool output_piped, errors_piped; /* these are no terminals, and shall be none for the command */
	int lock;                        /* SESSION's, held to the end, or -1 */
	int log;                         /* where the kernel's log goes, or -1 */
};

/*
 * The pipes between this program and the guest's consoles: [0] is read from, [1] written to. The guest's end of
 * each has the number RUN_FIRST_FD + its place here in the kernel's process.
 */
enum run_pipe { RUN_INPUT, RUN_OUTPUT, RUN_ERRORS, RUN_ORDERS, RUN_STATUS, RUN_LOG, RUN_HOST, RUN_PIPES };
enum { RUN_FIRST_FD = 3 };

/* The index of the end that the guest has. */
static inline int run_guest_end(int pipe)
{
	return pipe == RUN_INPUT || pipe == RUN_ORDERS ? 0 : 1;
}

/* run_options.c: -1 and *out, for run_free_options(), or the exit status. The words in it borrow from argv. */
int run_parse(int argc, char **argv, struct run_options *out);
void run_free_options(struct run_options *options);

/* run_plan.c: 0 and *out, for run_free_plan(), or -errno after it has said why. Touches nothing. */
int run_make_plan(const struct run_options *options, struct run_plan *out);
void run_free_plan(struct run_plan *plan);

/* run_job.c: the description for umlfs-init, on the heap. */
int run_write_job(const struct run_plan *plan, char **text_out, size_t *len_out);

/* run_guest.c: the kernel's words, NULL behind the last, on the heap; dir: the private directory. */
char **run_command_line(const struct run_plan *plan, const char *dir);

/* The guest's umid, for its management console: the private directory's name. */
const char *run_umid(const char *dir);

/* Makes in dir what the command line names. */
int run_prepare(const struct run_plan *plan, const char *dir, const char *mountpoint);

/* Starts the kernel as the leader of a process group, which dies with its parent: the pid or -errno. */
pid_t run_start_kernel(const struct run_plan *plan, const char *dir, int pipes[RUN_PIPES][2]);

/* run_cpu.c: on which CPU the processes of a guest are. */
enum { RUN_CPU_LOOK_MS = 250 };

struct run_cpu {
	cpu_set_t allowed;          /* where they may be; empty: anywhere */
	int64_t looked;             /* when, in ms */
	uint64_t waited;            /* ns that the kernel had waited for its CPU by then */
	bool was_crowded;           /* then, and so idle is known */
	uint64_t idle[CPU_SETSIZE]; /* ticks */
};

/* Binds the process, and so those that it makes, to the CPU that it runs on, unless the guest has several. */
void run_bind_to_cpu(const struct run_options *o);

void run_cpu_init(struct run_cpu *c, const struct run_options *o);

/* Milliseconds after which run_cpu_look() is to be called again, for poll(2): -1: never. */
int run_cpu_due(const struct run_cpu *c);

/* When others had the CPU too often, and another one was idle, moves all processes of the guest there. kernel: it leads their group. */
void run_cpu_look(struct run_cpu *c, pid_t kernel);

/* run_session.c: a session while it is served by a process of this program. */
struct run_session {
	char *path;       /* of the session */
	char *mountpoint; /* NULL until it is mounted */
	pid_t server;     /* 0: none, somebody else's mount */
};

/*
 * Serves the session and returns when it is mounted, or when stop can be read: -ECANCELED. Keeps nothing but
 * standard error open in the process that serves.
 */
int run_mount(const struct run_plan *plan, int stop, struct run_session *session);

/* Goes to the snapshot to start from. */
int run_go_to_snapshot(const struct run_plan *plan, const struct run_session *session);

/* Unmounts what run_mount() mounted; returns when its process has ended. */
int run_unmount(struct run_session *session);

/* Puts SESSION back to the snapshot that it stands on. */
int run_reset(const struct run_session *session);

/*
 * run_keeper.c: a process that makes everything and takes it away again: the private directory, the mount, the
 * guest. It does so when it is told to, and when whoever could tell it is dead.
 */
struct run_keeper {
	pid_t pid;
	int fd; /* SOCK_SEQPACKET: see enum keeper_word */
};

/* First byte of a message; the rest is text. */
enum keeper_word {
	KEEPER_STARTED = 'g', /* from it: the guest's pid and its private directory */
	KEEPER_ENDED = 'x',   /* from it: no process of the guest is left; wait(2)'s status */
	KEEPER_KEPT = 's',    /* from it: the path of the session that stays */
	KEEPER_FAILED = 'f',  /* from it: something could not be made, or not taken away; it has said why */
	KEEPER_END = 'e',     /* to it: end the guest */
	KEEPER_DROP = 'd',    /* to it: end everything, the session is removed or reset */
	KEEPER_KEEP = 'k',    /* to it: end everything but the session */
};

int run_start_keeper(const struct run_plan *plan, int pipes[RUN_PIPES][2], struct run_keeper *out);

/* run_tail.c: the last words of a kernel, and whether it panicked. */
struct run_tail {
	char bytes[1 << 14];
	size_t len;
	bool panicked;
};

void run_tail_add(struct run_tail *tail, const char *bytes, size_t len);

/* The line that says why the kernel panicked; empty when it is no longer there. */
void run_tail_panic(const struct run_tail *tail, char *line, size_t size);

/* True when the kernel says that its memory is too small to boot. */
bool run_tail_lacks_memory(const struct run_tail *tail);

/* Prints the last lines. */
void run_tail_print(const struct run_tail *tail, FILE *out);

/* run_flow.c: bytes on their way from one descriptor to another, never waiting for either. */
struct run_flow {
	int from, to;          /* from -1: at its end */
	struct run_tail *tail; /* sees everything as well, or NULL */
	char bytes[4096];      /* what PIPE_BUF is: a pipe that can be written to takes it whole */
	size_t at, len;
	unsigned int escapes; /* Ctrl-] in a row at the end of what was read */
};

struct pollfd;

/* What to poll(2) for; false when there is nothing more to do. */
bool run_flow_wants(const struct run_flow *flow, struct pollfd *fd);

/* Does what poll(2) said can be done. -EPIPE: nobody reads it any more. */
int run_flow_move(struct run_flow *flow, const struct pollfd *fd);

/* run_input.c: standard input on its way to a command without a terminal. */
struct run_input {
	int from;                 /* -1: not yet, or no more */
	int dir;                  /* where the guest looks for it */
	unsigned int sent, taken; /* parts of it */
};

/* From now on it is read; dir: the private directory. 0, or -errno after it has said why. */
int run_input_begin(struct run_input *input, const char *dir);

/* True when standard input is to be polled. */
bool run_input_wants(const struct run_input *input);

/* Moves what can be read; orders: the way to the guest. -errno after it has said why. */
int run_input_move(struct run_input *input, int orders);

/* The guest has read a part. */
void run_input_taken(struct run_input *input, unsigned int number);

/* Nobody in the guest reads it any more. */
void run_input_end(struct run_input *input);

/* run_terminal.c: the user's terminal in raw mode. */
void run_terminal_size(unsigned short *rows_out, unsigned short *cols_out);
int run_terminal_raw(void);
void run_terminal_restore(void);

/* What happened in the end. */
enum run_end { RUN_END_NONE, RUN_END_EXIT, RUN_END_TIMEOUT, RUN_END_PANIC, RUN_END_INTERRUPTED, RUN_END_FAILED };

struct run_result {
	enum run_end end;
	int status;            /* of the command, with RUN_END_EXIT */
	int signal;            /* that interrupted this program */
	double started, ended; /* seconds since the beginning; 0: it did not come to this */
	bool cleaned;          /* false: something could not be taken away */
	char *why;             /* for people, or NULL; on the heap */
	char *kept;            /* path of the session that stays, or NULL; on the heap */
};

/* run_watch.c: carries the guest's streams until everything has ended. */
void run_watch(const struct run_plan *plan, struct run_keeper *keeper, int pipes[RUN_PIPES][2], struct run_tail *tail,
               struct run_result *result);

/* run_report.c: says what must be said and answers the exit status. */
int run_report(const struct run_plan *plan, const struct run_result *result, const struct run_tail *tail);

/* {"event": "started", ...} for --json-status-fd. */
void run_report_start(const struct run_plan *plan, const char *pid_and_dir);
