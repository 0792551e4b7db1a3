/*
 * import_main: the program umlfs-import, which `umlfs import` becomes: makes a base of an archive or a directory. A program
 * of its own because libarchive brings so many libraries that loading them would cost every other command two milliseconds.
 * Invariant: interrupted by a signal, it removes what it made and says so.
 */
#include "cmd.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>

#include "cmd_meter.h"
#include "umlfs/import.h"

static int take_flag(void *arg, int flag, const char *value)
{
	struct import_options *o = arg;

	if (flag == 'P')
		o->platform = value;
	else if (flag == 'I')
		o->image = value;
	else
		o->force = true;
	return 0;
}

static int run_import(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "force", .val = 'F'},
	                                      {.name = "platform", .has_arg = required_argument, .val = 'P'},
	                                      {.name = "image", .has_arg = required_argument, .val = 'I'},
	                                      {0}};
	struct cmd_meter meter;
	struct import_options options = {.log = &cmd_log, .progress = cmd_meter_tell, .progress_arg = &meter};
	struct cmd_flags flags = {.letters = "", .names = names, .arg = &options, .take = take_flag};
	struct import_result result;
	char size[32];
	double took;
	int first;
	int r = cmd_parse(self, argc, argv, &flags, 2, argc, &first);

	if (r >= 0)
		return r;
	options.sources = (const char *const *)(argv + first);
	options.n_sources = (unsigned int)(argc - first - 1);
	options.base = argv[argc - 1];
	cmd_meter_start(&meter);
	r = import_run(&options, &result);
	took = cmd_meter_end(&meter);
	if (r == -ECANCELED)
		log_error(&cmd_log, 0, "%s: interrupted; nothing was made", options.base);
	if (r < 0)
		return EXIT_FAILED;
	cmd_print_bytes(size, sizeof(size), result.bytes);
	fprintf(stderr, "%s: %llu %s, %s, in %.1f s\n", options.base, (unsigned long long)result.entries,
	        result.entries == 1 ? "entry" : "entries", size, took);
	return EXIT_DONE;
}

static const struct command command = {
	.name = "import",
	.usage = "[--force] [--platform P] [--image NAME] ARCHIVE|DIR|IMAGE|-... BASE",
	.help = "make a base of an archive, a directory or an image",
	.details = "ARCHIVE is tar or cpio, plain or under gzip, bzip2, xz, zstd, lzma, lzip, lz4 or\n"
		   "compress, or it is zip, ISO 9660 or 7-Zip; - reads one from standard input (of\n"
		   "7-Zip when that is a file). Works the same for an ordinary user as for root:\n"
		   "what the host would refuse is kept in BASE/.umlfs/index. BASE is there whole or\n"
		   "not at all. Of several archives or directories later ones come over earlier\n"
		   "ones, as if one had been extracted after the other.\n\n"
		   "An archive keeps every owner. Of a directory, the uid and gid of the user who\n"
		   "imports it become root's: an ordinary user who extracted an archive could not\n"
		   "give files to anybody else. Other owners stay.\n\n"
		   "IMAGE is an OCI image layout, as a directory or a tar file, or what `docker\n"
		   "save` or `podman save` wrote, also through a pipe: all layers of the image are\n"
		   "put over each other, each after its digest was compared. The only image is\n"
		   "taken for any machine; of several, the one that is for this machine. When\n"
		   "--platform and --image leave none, or more than one, nothing is made. An image\n"
		   "under two names is one.\n\n"
		   "  --force       replace a base that is there, but none that a mounted session\n"
		   "                stands on\n"
		   "  --platform P  OS/ARCHITECTURE[/VARIANT] of the image, such as linux/arm64\n"
		   "  --image NAME  the image of this name: org.opencontainers.image.ref.name of the\n"
		   "                layout, or a tag, name:tag, that docker saved; of docker's own,\n"
		   "                docker.io/library/name:tag, also the end alone\n",
	.run = run_import,
};

int main(int argc, char **argv)
{
	signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error like others, and what was begun is removed */
	if (argc < 2)
		return cmd_usage_error(&command, "this is a part of umlfs: run `umlfs import`");
	return cmd_end(command.run(&command, argc - 1, argv + 1), EXIT_FAILED);
}
