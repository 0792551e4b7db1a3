/*
 * import: owns the order of an import: look, read, index, put in place.
 * Invariant: until the last step the base's name means what it meant before.
 * Called by the program.
 */
#include "umlfs/import.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "import_archive.h"
#include "import_dir.h"
#include "import_image.h"
#include "import_meter.h"
#include "import_place.h"
#include "import_report.h"
#include "import_source.h"
#include "import_target.h"
#include "manifest.h"

struct import {
	struct import_report report;
	struct import_meter meter;
	struct import_place *place;
	struct import_target *target;
	/* The source that is read now, one of the two: */
	int dir; /* -1 */
	struct import_source *archive;
	bool is_image;
	bool chose; /* one was an image */
	int root;   /* of the base while it is made; borrowed */
	struct import_image_choice choice;
};

static int open_source(struct import *im, const char *source)
{
	bool is_stdin = strcmp(source, "-") == 0;
	cleanup_fd int fd =
		is_stdin ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) : open(source, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	int r;

	im->report.source = is_stdin ? "standard input" : source;
	im->report.between = ": ";
	if (fd < 0 && errno == ENOENT)
		return import_report(&im->report, NULL, -ENOENT,
		                     "no such archive or directory: give one, or - for standard input");
	if (fd < 0 || fstat(fd, &st) < 0)
		return import_report_errno(&im->report, NULL, -errno);
	if (S_ISDIR(st.st_mode) && manifest_is_there(fd))
		return import_report(&im->report, NULL, -EINVAL, "is a session: `umlfs commit` makes a base of one");
	if (S_ISDIR(st.st_mode)) {
		im->dir = take_fd(&fd);
		im->is_image = import_blobs_is_layout(im->dir);
		im->report.between = im->is_image ? ": " : "/";
		return 0;
	}
	r = import_source_new(fd, &im->meter, &im->archive);
	if (r < 0)
		return import_report_errno(&im->report, NULL, r);
	take_fd(&fd);
	r = import_blobs_look(im->archive, &im->report);
	im->is_image = r > 0;
	return r < 0 ? r : 0;
}

static void close_source(struct import *im)
{
	im->dir = close_fd(im->dir);
	import_source_free(im->archive);
	im->archive = NULL;
}

static int read_image(struct import *im)
{
	struct import_blobs *blobs;
	int r;

	im->meter.now.bytes_total = 0; /* what is packed in it is not known */
	if (im->archive)
		r = import_blobs_new(im->archive, im->root, &im->report, &im->meter, &blobs);
	else
		r = import_blobs_new_dir(im->dir, &im->report, &im->meter, &blobs);
	if (r < 0)
		return im->meter.stopped ? -ECANCELED : r;
	if (!im->archive)
		take_fd(&im->dir);
	r = import_image(blobs, &im->choice, &im->report, &im->meter, im->target);
	import_blobs_free(blobs);
	return r;
}

/* Adds one source to what the target has. */
static int read_source(struct import *im)
{
	im->chose = im->chose || im->is_image;
	if (im->is_image)
		return read_image(im);
	if (im->archive)
		return import_archive(im->archive, &im->report, &im->meter, im->target);
	if (import_place_touches(im->place, im->dir))
		return import_report(&im->report, NULL, -EINVAL,
		                     "the base cannot lie inside the directory that it is made from, "
		                     "nor the other way round: give the base another place");
	return import_dir(im->dir, &im->report, &im->meter, im->target);
}

/* How much there is to read, 0 when that cannot be told. */
static uint64_t count_bytes(const struct import_options *o)
{
	uint64_t total = 0;

	for (unsigned int i = 0; i < o->n_sources; i++) {
		bool is_stdin = strcmp(o->sources[i], "-") == 0;
		struct stat st;

		if ((is_stdin ? fstat(STDIN_FILENO, &st) : stat(o->sources[i], &st)) < 0 || !S_ISREG(st.st_mode))
			return 0;
		total += (uint64_t)st.st_size;
	}
	return total;
}

/* The first source is open. */
static int read_sources(struct import *im, const struct import_options *o)
{
	int r = read_source(im);

	for (unsigned int i = 1; r == 0 && i < o->n_sources; i++) {
		close_source(im);
		r = open_source(im, o->sources[i]);
		if (r == 0)
			r = read_source(im);
	}
	if (r == 0 && !im->chose && (o->platform || o->image))
		return import_report(&im->report, NULL, -EINVAL, "is no image: leave out --platform and --image");
	return r;
}

static int make(struct import *im, const struct import_options *o, struct import_result *result)
{
	int root = import_place_begin(im->place);
	int r;

	if (root < 0)
		return root;
	im->root = root;
	r = import_target_new(root, &im->report, &im->target);
	if (r < 0)
		return import_report_errno(&im->report, NULL, r);
	r = read_sources(im, o);
	if (r == 0)
		r = import_target_index(im->target, result);
	if (r == 0)
		r = import_meter_tell(&im->meter);
	return r < 0 ? r : import_place_commit(im->place);
}

int import_run(const struct import_options *options, struct import_result *result)
{
	struct import im = {
		.report = {.log = options->log},
		.meter = {.tell = options->progress, .arg = options->progress_arg},
		.dir = -1,
	};
	struct import_result made;
	int r;

	im.choice = (struct import_image_choice){.platform = options->platform, .image = options->image};
	im.meter.now.bytes_total = count_bytes(options);
	r = open_source(&im, options->sources[0]);

	if (r == 0)
		r = import_place_new(options->base, options->force, options->log, &im.place);
	if (r == 0)
		r = make(&im, options, &made);
	import_target_free(im.target);
	import_place_free(im.place);
	close_source(&im);
	if (r == 0)
		*result = made;
	return r;
}
