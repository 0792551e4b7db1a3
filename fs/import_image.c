/*
 * import_image: owns the parsed documents.
 * Invariant: no byte of a blob counts before the whole blob has the digest under which it was asked for.
 * Called by import.
 */
#include "import_image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "cleanup.h"
#include "import_archive.h"
#include "import_digest.h"
#include "io.h"

enum {
	DOCUMENT_MAX = 4 << 20, /* bytes of one, as registries have it */
	NESTED_MAX = 4,         /* indexes that list indexes */
	LAYERS_MAX = 1024,
	PATH_BYTES = 160,
};

struct image {
	const struct import_blobs *blobs;
	const struct import_image_choice *choice;
	const struct import_report *report;
	struct import_meter *meter;
	struct import_target *target;
	char platform[96]; /* what is looked for */
	char chosen[PATH_BYTES];
	unsigned int n_found;
};

static int bad(const struct image *im, const char *path, const char *why)
{
	return import_report(im->report, path, -EUCLEAN, why);
}

/* "sha256:HEX" becomes the blob's path. */
static int blob_path(const struct image *im, const char *digest, char path[PATH_BYTES])
{
	size_t len = digest && strncmp(digest, "sha256:", 7) == 0   ? IMPORT_SHA256_HEX
	             : digest && strncmp(digest, "sha512:", 7) == 0 ? IMPORT_SHA512_HEX
	                                                            : 0;

	if (len == 0 || strlen(digest + 7) != len || strspn(digest + 7, "0123456789abcdef") != len)
		return bad(im, digest, "is no digest that umlfs knows: sha256 and sha512 are");
	snprintf(path, PATH_BYTES, "blobs/%.6s/%s", digest, digest + 7);
	return 0;
}

/* The digest of the whole file. */
static int check_digest(const struct image *im, const struct import_blob *blob, const char *path, bool is_512,
                        const char *hex)
{
	int r = import_digest_compare(blob, is_512, hex, im->meter);

	if (r == -EBADMSG)
		return bad(im, path, "its bytes have another digest: get the image again");
	return r < 0 && r != -ECANCELED ? import_report_errno(im->report, path, r) : r;
}

/* A file of the layout; with a digest in its path, one that has it. size: what it must be, below 0: any. */
static int open_blob(const struct image *im, const char *path, json_int_t size, struct import_blob *out)
{
	struct import_blob blob;
	int r = import_blobs_open(im->blobs, path, &blob);

	if (r == -ENOENT)
		return bad(im, path, "the image lacks it: get it again, with all of its layers");
	if (r < 0)
		return import_report_errno(im->report, path, r);
	if (size >= 0 && blob.len != (uint64_t)size)
		r = bad(im, path, "is not as long as the image says: get it again");
	else if (strncmp(path, "blobs/", 6) == 0)
		r = check_digest(im, &blob, path, strncmp(path, "blobs/sha512/", 13) == 0, path + 13);
	if (r < 0)
		close_fd(blob.fd);
	else
		*out = blob;
	return r;
}

static int parse(const struct image *im, const struct import_blob *blob, const char *path, json_t **out)
{
	cleanup_free char *text = NULL;
	json_error_t error;
	int r;

	if (blob->len > DOCUMENT_MAX)
		return bad(im, path, "is longer than a document of an image may be");
	text = malloc((size_t)blob->len + 1);
	r = text ? io_read_all(blob->fd, text, (size_t)blob->len, blob->at) : -ENOMEM;
	if (r < 0)
		return import_report_errno(im->report, path, r);
	*out = json_loadb(text, (size_t)blob->len, JSON_REJECT_DUPLICATES, &error);
	return *out ? 0 : bad(im, path, error.text);
}

static int load(const struct image *im, const char *path, json_int_t size, json_t **out)
{
	struct import_blob blob;
	int r = open_blob(im, path, size, &blob);

	if (r < 0)
		return r;
	r = parse(im, &blob, path, out);
	close_fd(blob.fd);
	return r;
}

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static json_int_t size_of(const json_t *descriptor)
{
	const json_t *size = json_object_get(descriptor, "size");

	return json_is_integer(size) && json_integer_value(size) >= 0 ? json_integer_value(size) : -1;
}

static const char *this_architecture(const struct utsname *uts)
{
	static const char *const names[][2] = {
		{"x86_64", "amd64"}, {"aarch64", "arm64"}, {"i686", "386"},        {"i586", "386"},
		{"armv7l", "arm"},   {"armv6l", "arm"},    {"ppc64le", "ppc64le"}, {"loongarch64", "loong64"},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(uts->machine, names[i][0]) == 0)
			return names[i][1];
	}
	return uts->machine;
}

static void set_platform(struct image *im)
{
	struct utsname uts;

	if (im->choice->platform) {
		snprintf(im->platform, sizeof(im->platform), "%s", im->choice->platform);
		return;
	}
	uname(&uts);
	snprintf(im->platform, sizeof(im->platform), "linux/%s", this_architecture(&uts));
}

/* True when it is the platform that is looked for; one that tells nothing may be any. */
static bool is_for(const struct image *im, const json_t *platform)
{
	const char *os = text_of(platform, "os"), *architecture = text_of(platform, "architecture");
	const char *variant = text_of(platform, "variant");
	char text[96];
	size_t len;

	if (!os || !architecture)
		return !im->choice->platform;
	snprintf(text, sizeof(text), "%s/%s/%s", os, architecture, variant ? variant : "");
	len = strlen(im->platform);
	return strncmp(text, im->platform, len) == 0 && (text[len] == '\0' || text[len] == '/');
}

/* Docker's names, "docker.io/library/NAME:TAG", are the same without their beginning, which docker does not show either. */
static bool is_docker_name(const char *name, const char *wanted)
{
	static const char *const starts[] = {"", "docker.io/", "docker.io/library/"};

	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		size_t len = strlen(starts[i]);

		if (strncmp(name, starts[i], len) == 0 && strcmp(name + len, wanted) == 0)
			return true;
	}
	return false;
}

/* In what docker saves from version 25 on the first name is the tag alone, and containerd's is the whole. */
static bool is_named(const struct image *im, const json_t *descriptor)
{
	const char *wanted = im->choice->image;
	const json_t *notes = json_object_get(descriptor, "annotations");
	const char *name = text_of(notes, "org.opencontainers.image.ref.name");
	const char *full = text_of(notes, "io.containerd.image.name");

	return !wanted || (name && strcmp(name, wanted) == 0) || (full && is_docker_name(full, wanted));
}

/* Index media types: of OCI, and of Docker. */
static bool is_index(const json_t *descriptor)
{
	const char *media = text_of(descriptor, "mediaType");

	return media && (strstr(media, "image.index") || strstr(media, "manifest.list"));
}

static int choose(struct image *im, const json_t *index, const char *path, unsigned int depth, bool only,
                  json_t **manifest_out);

static int take_descriptor(struct image *im, const json_t *d, unsigned int depth, bool only, json_t **manifest_out)
{
	char path[PATH_BYTES];
	json_t *document = NULL;
	int r;

	if ((depth == 0 && !is_named(im, d)) ||
	    (!is_index(d) && !is_for(im, json_object_get(d, "platform")) && (im->choice->platform || !only)))
		return 0;
	r = blob_path(im, text_of(d, "digest"), path);
	if (r < 0 || (!is_index(d) && strcmp(path, im->chosen) == 0)) /* one image under two names */
		return r;
	r = load(im, path, size_of(d), &document);
	if (r < 0)
		return r;
	if (is_index(d)) {
		r = choose(im, document, path, depth + 1, only, manifest_out);
		json_decref(document);
		return r;
	}
	im->n_found++;
	snprintf(im->chosen, sizeof(im->chosen), "%s", path);
	json_decref(*manifest_out);
	*manifest_out = document;
	return 0;
}

/* Looks for the one manifest that is meant. only: the layout has no choice to make. */
static int choose(struct image *im, const json_t *index, const char *path, unsigned int depth, bool only,
                  json_t **manifest_out)
{
	const json_t *list = json_object_get(index, "manifests");
	int r = 0;

	if (!json_is_array(list))
		return bad(im, path, "is no index of an image: it has no list of manifests");
	if (depth == NESTED_MAX)
		return bad(im, path, "is an index in an index too often");
	only = only && json_array_size(list) == 1;
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++)
		r = take_descriptor(im, json_array_get(list, i), depth, only, manifest_out);
	return r;
}

static int read_layer(const struct image *im, const struct import_blob *blob, enum import_layer_pass pass,
                      const struct import_report *report)
{
	cleanup_fd int fd = fcntl(blob->fd, F_DUPFD_CLOEXEC, 0);
	struct import_source *source;
	int r = fd < 0 ? -errno : import_source_new_part(fd, blob->at, blob->len, im->meter, &source);

	if (r < 0)
		return import_report_errno(report, NULL, r);
	take_fd(&fd);
	r = import_archive_layer(source, pass, report, im->meter, im->target);
	import_source_free(source);
	return r;
}

/* Of a layer whose digest was compared. */
static int put_layer(const struct image *im, const char *path, const struct import_blob *blob, bool first)
{
	const struct import_report *r0 = im->report;
	char source[512];
	struct import_report report = {.log = r0->log, .source = source, .between = ": "};
	int r = 0;

	snprintf(source, sizeof(source), "%s%s%.30s...", r0->source, r0->between, path);
	if (!first) /* nothing lies below the first */
		r = read_layer(im, blob, IMPORT_LAYER_REMOVES, &report);
	return r < 0 ? r : read_layer(im, blob, IMPORT_LAYER_ADDS, &report);
}

static int put_layers(const struct image *im, const json_t *manifest)
{
	const json_t *layers = json_object_get(manifest, "layers");
	int r = 0;

	if (!json_is_array(layers) || json_array_size(layers) == 0)
		return bad(im, im->chosen, "is no manifest of an image that umlfs knows: it lists no layers");
	if (json_array_size(layers) > LAYERS_MAX)
		return bad(im, im->chosen, "lists more layers than an image can have");
	for (size_t i = 0; r == 0 && i < json_array_size(layers); i++) {
		const json_t *d = json_array_get(layers, i);
		char path[PATH_BYTES];
		struct import_blob blob;

		r = blob_path(im, text_of(d, "digest"), path);
		if (r == 0)
			r = open_blob(im, path, size_of(d), &blob);
		if (r < 0)
			break;
		r = put_layer(im, path, &blob, i == 0);
		close_fd(blob.fd);
	}
	return r;
}

static int check_version(const struct image *im)
{
	json_t *layout = NULL;
	const char *version;
	int r = load(im, "oci-layout", -1, &layout);

	if (r < 0)
		return r;
	version = text_of(layout, "imageLayoutVersion");
	if (!version || strncmp(version, "1.", 2) != 0)
		r = bad(im, "oci-layout", "is not of version 1, the one that umlfs knows");
	json_decref(layout);
	return r;
}

/* The digest that a name of docker's tells, "HEX.json", "HEX.tar.gz" or "sha256:HEX"; NULL when it tells none. */
static const char *digest_in(const char *name, char hex[IMPORT_SHA256_HEX + 1])
{
	bool told = strncmp(name, "sha256:", 7) == 0;
	const char *digits = name + (told ? 7 : 0);
	size_t len = strspn(digits, "0123456789abcdef");
	const char *end = digits + len;

	if (len != IMPORT_SHA256_HEX || (!told && strcmp(end, ".json") != 0 && strcmp(end, ".tar.gz") != 0))
		return NULL;
	memcpy(hex, digits, len);
	hex[len] = '\0';
	return hex;
}

/* A file of what docker saved. diff_id: the digest that it must have when its name tells none, or NULL. */
static int open_saved(const struct image *im, const char *name, const char *diff_id, struct import_blob *out)
{
	char hex[IMPORT_SHA256_HEX + 1];
	const char *digest = name ? digest_in(name, hex) : NULL;
	struct import_blob blob;
	int r;

	if (!name)
		return bad(im, "manifest.json", "names no such file");
	if (!digest && diff_id)
		digest = strncmp(diff_id, "sha256:", 7) == 0 ? diff_id + 7 : diff_id;
	r = open_blob(im, name, -1, &blob);
	if (r < 0)
		return r;
	if (digest)
		r = check_digest(im, &blob, name, false, digest);
	if (r < 0)
		close_fd(blob.fd);
	else
		*out = blob;
	return r;
}

static bool is_tagged(const struct image *im, const json_t *saved)
{
	const json_t *tags = json_object_get(saved, "RepoTags");
	bool found = !im->choice->image;

	for (size_t i = 0; !found && i < json_array_size(tags); i++) {
		const char *tag = json_string_value(json_array_get(tags, i));

		found = tag && strcmp(tag, im->choice->image) == 0;
	}
	return found;
}

/* Looks for the one image that is meant; *saved_out is borrowed, *config_out is new. */
static int choose_saved(struct image *im, const json_t *list, const json_t **saved_out, json_t **config_out)
{
	bool only = json_array_size(list) == 1 && !im->choice->platform;

	if (!json_is_array(list))
		return bad(im, "manifest.json", "is no list of images");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *saved = json_array_get(list, i);
		const char *name = text_of(saved, "Config");
		json_t *config = NULL;
		struct import_blob blob;
		int r;

		if (!is_tagged(im, saved))
			continue;
		r = open_saved(im, name, NULL, &blob);
		if (r < 0)
			return r;
		r = parse(im, &blob, name, &config);
		close_fd(blob.fd);
		if (r < 0)
			return r;
		if (!only && !is_for(im, config)) {
			json_decref(config);
			continue;
		}
		im->n_found++;
		json_decref(*config_out);
		*config_out = config;
		*saved_out = saved;
	}
	return 0;
}

static int put_saved(const struct image *im, const json_t *saved, const json_t *config)
{
	const json_t *layers = json_object_get(saved, "Layers");
	const json_t *ids = json_object_get(json_object_get(config, "rootfs"), "diff_ids");
	int r = 0;

	if (json_array_size(layers) == 0 || json_array_size(layers) > LAYERS_MAX ||
	    json_array_size(ids) != json_array_size(layers))
		return bad(im, "manifest.json", "lists no layers, or others than the image's configuration");
	for (size_t i = 0; r == 0 && i < json_array_size(layers); i++) {
		const char *name = json_string_value(json_array_get(layers, i));
		const char *id = json_string_value(json_array_get(ids, i));
		struct import_blob blob;

		r = open_saved(im, name, id ? id : "", &blob);
		if (r < 0)
			break;
		r = put_layer(im, name, &blob, i == 0);
		close_fd(blob.fd);
	}
	return r;
}

static int check_found(const struct image *im)
{
	const char *name = im->choice->image;
	char why[200];

	if (im->n_found == 1)
		return 0;
	snprintf(why, sizeof(why), "%s for %s%s%s: choose with --platform and --image",
	         im->n_found ? "more than one image" : "no image", im->platform, name ? " named " : "",
	         name ? name : "");
	return import_report(im->report, NULL, im->n_found ? -ENOTUNIQ : -ENOENT, why);
}

/* What `docker save` before version 25 makes, and `podman save --format docker-archive`. */
static int import_saved(struct image *im)
{
	json_t *list = NULL, *config = NULL;
	const json_t *saved = NULL;
	int r = load(im, "manifest.json", -1, &list);

	if (r == 0)
		r = choose_saved(im, list, &saved, &config);
	if (r == 0)
		r = check_found(im);
	if (r == 0)
		r = put_saved(im, saved, config);
	json_decref(config);
	json_decref(list);
	return r;
}

static bool has(const struct image *im, const char *path)
{
	struct import_blob blob;
	int r = import_blobs_open(im->blobs, path, &blob);

	if (r == 0)
		close_fd(blob.fd);
	return r == 0;
}

static int import_layout(struct image *im)
{
	json_t *index = NULL, *manifest = NULL;
	int r = check_version(im);

	if (r == 0)
		r = load(im, "index.json", -1, &index);
	if (r == 0)
		r = choose(im, index, "index.json", 0, true, &manifest);
	if (r == 0)
		r = check_found(im);
	if (r == 0)
		r = put_layers(im, manifest);
	json_decref(manifest);
	json_decref(index);
	return r;
}

int import_image(const struct import_blobs *blobs, const struct import_image_choice *choice,
                 const struct import_report *report, struct import_meter *meter, struct import_target *target)
{
	struct image im = {.blobs = blobs, .choice = choice, .report = report, .meter = meter, .target = target};

	set_platform(&im);
	return !has(&im, "oci-layout") && has(&im, "manifest.json") ? import_saved(&im) : import_layout(&im);
}
