/*
 * manifest: reads and replaces the text file that says what a session is.
 *
 *     umlfs manifest 1
 *     base 3f..32 hex digits..9a /path/of/the/base
 *     next ino 10231 serial 5512 layer 4
 *     top 3
 *     layer 1 parent 0 sealed 81920 changes 210 bytes 90112
 *     layer 3 parent 1 sealed 0 changes 0 bytes 0
 *     snapshot 1 1790000000 configured
 *     end 16 hex digits: the XXH3-64 of all before this line
 *
 * In paths and names, bytes up to space, '%' and DEL stand as %XX.
 * It is read as it is written, and not otherwise: so no number is cut off, and no word is missed.
 * Invariant: what manifest_read() accepts has one open layer, the top, and every parent comes before its children.
 * Called by session, commit, recovery and store.
 */
#include "manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "format.h"
#include "io.h"

static const char file_name[] = "manifest";
static const char old_name[] = "manifest.old";

enum { FILE_MAX = 64 << 20, WHY_BYTES = 128 };

void manifest_fini(struct manifest *m)
{
	for (size_t i = 0; i < m->n_snapshots; i++)
		free(m->snapshots[i].name);
	free(m->snapshots);
	free(m->layers);
	free(m->base_path);
	*m = (struct manifest){0};
}

int manifest_add_layer(struct manifest *m, uint32_t id, uint32_t parent)
{
	struct manifest_layer *grown = reallocarray(m->layers, m->n_layers + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	m->layers = grown;
	m->layers[m->n_layers++] = (struct manifest_layer){.id = id, .parent = parent};
	return 0;
}

int manifest_add_snapshot(struct manifest *m, uint32_t layer, int64_t time, const char *name)
{
	struct manifest_snapshot *grown = reallocarray(m->snapshots, m->n_snapshots + 1, sizeof(*grown));
	char *copy = strdup(name);

	if (grown)
		m->snapshots = grown;
	if (!grown || !copy) {
		free(copy);
		return -ENOMEM;
	}
	m->snapshots[m->n_snapshots++] = (struct manifest_snapshot){.layer = layer, .time = time, .name = copy};
	return 0;
}

void manifest_remove_snapshot(struct manifest *m, size_t nr)
{
	free(m->snapshots[nr].name);
	m->n_snapshots--;
	memmove(&m->snapshots[nr], &m->snapshots[nr + 1], (m->n_snapshots - nr) * sizeof(*m->snapshots));
}

int manifest_copy(const struct manifest *m, struct manifest *out)
{
	struct manifest copy = *m;
	int r = 0;

	copy.layers = NULL;
	copy.snapshots = NULL;
	copy.n_layers = 0;
	copy.n_snapshots = 0;
	copy.base_path = strdup(m->base_path);
	if (!copy.base_path)
		r = -ENOMEM;
	for (size_t i = 0; r == 0 && i < m->n_layers; i++) {
		r = manifest_add_layer(&copy, m->layers[i].id, m->layers[i].parent);
		if (r == 0)
			copy.layers[i] = m->layers[i];
	}
	for (size_t i = 0; r == 0 && i < m->n_snapshots; i++)
		r = manifest_add_snapshot(&copy, m->snapshots[i].layer, m->snapshots[i].time, m->snapshots[i].name);
	if (r < 0) {
		manifest_fini(&copy);
		return r;
	}
	*out = copy;
	return 0;
}

struct manifest_layer *manifest_layer(const struct manifest *m, uint32_t id)
{
	for (size_t i = 0; i < m->n_layers; i++) {
		if (m->layers[i].id == id)
			return &m->layers[i];
	}
	return NULL;
}

struct manifest_snapshot *manifest_snapshot(const struct manifest *m, const char *name)
{
	for (size_t i = 0; i < m->n_snapshots; i++) {
		if (strcmp(m->snapshots[i].name, name) == 0)
			return &m->snapshots[i];
	}
	return NULL;
}

const struct manifest_snapshot *manifest_standing(const struct manifest *m, uint32_t layer)
{
	while (layer != 0) {
		for (size_t i = 0; i < m->n_snapshots; i++) {
			if (m->snapshots[i].layer == layer)
				return &m->snapshots[i];
		}
		layer = manifest_layer(m, layer)->parent;
	}
	return NULL;
}

static bool stood_on(const struct manifest *m, uint32_t id)
{
	if (m->top == id)
		return true;
	for (size_t i = 0; i < m->n_snapshots; i++) {
		if (m->snapshots[i].layer == id)
			return true;
	}
	for (size_t i = 0; i < m->n_layers; i++) {
		if (m->layers[i].parent == id)
			return true;
	}
	return false;
}

void manifest_prune(struct manifest *m)
{
	/* Children come behind their parents, so one pass from the end sees every child go first. */
	for (size_t i = m->n_layers; i-- > 0;) {
		if (stood_on(m, m->layers[i].id))
			continue;
		m->n_layers--;
		memmove(&m->layers[i], &m->layers[i + 1], (m->n_layers - i) * sizeof(*m->layers));
	}
}

static void print_word(FILE *out, const char *word)
{
	for (; *word; word++) {
		unsigned char c = (unsigned char)*word;

		if (c <= ' ' || c == '%' || c == 0x7f)
			fprintf(out, "%%%02X", c);
		else
			putc(c, out);
	}
}

static void print(FILE *out, const struct manifest *m)
{
	fprintf(out, "umlfs manifest %d\n", FORMAT_MANIFEST_VERSION);
	fprintf(out, "base %016" PRIx64 "%016" PRIx64 " ", m->base.high, m->base.low);
	print_word(out, m->base_path);
	fprintf(out, "\nnext ino %" PRIu64 " serial %" PRIu64 " layer %" PRIu32 "\n", m->next_ino, m->next_serial,
	        m->next_layer);
	fprintf(out, "top %" PRIu32 "\n", m->top);
	for (size_t i = 0; i < m->n_layers; i++) {
		const struct manifest_layer *l = &m->layers[i];

		fprintf(out,
		        "layer %" PRIu32 " parent %" PRIu32 " sealed %" PRIu64 " changes %" PRIu64 " bytes %" PRIu64
		        "\n",
		        l->id, l->parent, l->sealed, l->changes, l->bytes);
	}
	for (size_t i = 0; i < m->n_snapshots; i++) {
		fprintf(out, "snapshot %" PRIu32 " %" PRId64 " ", m->snapshots[i].layer, m->snapshots[i].time);
		print_word(out, m->snapshots[i].name);
		putc('\n', out);
	}
}

/* The whole file, on the heap: 0 or -ENOMEM. */
static int write_text(const struct manifest *m, char **text_out, size_t *len_out)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	bool whole;

	if (!out)
		return -ENOMEM;
	print(out, m);
	whole = fflush(out) == 0;
	if (whole)
		fprintf(out, "end %016" PRIx64 "\n", checksum64(text, len, 0));
	if (fclose(out) != 0 || !whole) {
		free(text);
		return -ENOMEM;
	}
	*text_out = text;
	*len_out = len;
	return 0;
}

int manifest_write(int dirfd, const struct manifest *m)
{
	cleanup_free char *text = NULL;
	size_t len;
	int r = write_text(m, &text, &len);

	return r < 0 ? r : io_replace_file(dirfd, file_name, text, len);
}

/* 0 when the file that was read, so long and of this checksum, is what would be written. */
static int check_form(const struct manifest *m, size_t len, uint64_t checksum)
{
	cleanup_free char *text = NULL;
	size_t want;
	int r = write_text(m, &text, &want);

	if (r < 0)
		return r;
	return want == len && checksum64(text, want, 0) == checksum ? 0 : -EUCLEAN;
}

/* Undoes print_word() in place: 0 or -EUCLEAN. */
static int decode_word(char *word)
{
	char *to = word;

	while (*word) {
		unsigned int byte;

		if (*word != '%') {
			*to++ = *word++;
			continue;
		}
		if (sscanf(word, "%%%2X", &byte) != 1 || byte == 0 || !word[1] || !word[2])
			return -EUCLEAN;
		*to++ = (char)byte;
		word += 3;
	}
	*to = '\0';
	return 0;
}

static int read_base(struct manifest *m, char *line)
{
	int at = 0;

	if (m->base_path || sscanf(line, "base %16" SCNx64 "%16" SCNx64 " %n", &m->base.high, &m->base.low, &at) != 2 ||
	    at == 0 || line[at] == '\0' || decode_word(line + at) < 0)
		return -EUCLEAN;
	m->base_path = strdup(line + at);
	return m->base_path ? 0 : -ENOMEM;
}

static int read_layer(struct manifest *m, const char *line)
{
	struct manifest_layer l;
	int r;

	if (sscanf(line, "layer %" SCNu32 " parent %" SCNu32 " sealed %" SCNu64 " changes %" SCNu64 " bytes %" SCNu64,
	           &l.id, &l.parent, &l.sealed, &l.changes, &l.bytes) != 5 ||
	    l.id == 0 || manifest_layer(m, l.id) || (l.parent && !manifest_layer(m, l.parent)))
		return -EUCLEAN;
	r = manifest_add_layer(m, l.id, l.parent);
	if (r == 0)
		m->layers[m->n_layers - 1] = l;
	return r;
}

static int read_snapshot(struct manifest *m, char *line)
{
	struct manifest_snapshot s;
	int at = 0;

	if (sscanf(line, "snapshot %" SCNu32 " %" SCNd64 " %n", &s.layer, &s.time, &at) != 2 || at == 0 ||
	    line[at] == '\0' || decode_word(line + at) < 0 || manifest_snapshot(m, line + at) ||
	    !manifest_layer(m, s.layer))
		return -EUCLEAN;
	return manifest_add_snapshot(m, s.layer, s.time, line + at);
}

static int read_line(struct manifest *m, char *line)
{
	if (strncmp(line, "base ", 5) == 0)
		return read_base(m, line);
	if (strncmp(line, "next ", 5) == 0)
		return sscanf(line, "next ino %" SCNu64 " serial %" SCNu64 " layer %" SCNu32, &m->next_ino,
		              &m->next_serial, &m->next_layer) == 3
		               ? 0
		               : -EUCLEAN;
	if (strncmp(line, "top ", 4) == 0)
		return sscanf(line, "top %" SCNu32, &m->top) == 1 ? 0 : -EUCLEAN;
	if (strncmp(line, "layer ", 6) == 0)
		return read_layer(m, line);
	if (strncmp(line, "snapshot ", 9) == 0)
		return read_snapshot(m, line);
	return -EUCLEAN;
}

static int check_whole(const struct manifest *m)
{
	if (!m->base_path || !manifest_layer(m, m->top) || m->next_ino == 0 || m->next_ino > FORMAT_NUMBERS_END ||
	    m->next_serial == 0 || m->next_serial > FORMAT_NUMBERS_END || m->next_layer > FORMAT_LAYERS_END)
		return -EUCLEAN;
	for (size_t i = 0; i < m->n_layers; i++) {
		if ((m->layers[i].sealed == 0) != (m->layers[i].id == m->top) || m->layers[i].id >= m->next_layer ||
		    m->layers[i].parent == m->top)
			return -EUCLEAN;
	}
	for (size_t i = 0; i < m->n_snapshots; i++) {
		if (m->snapshots[i].layer == m->top)
			return -EUCLEAN;
	}
	return 0;
}

/* Cuts the "end" line off after checking it. */
static int check_end(char *text, size_t len)
{
	char *end = len > 1 ? text + len - 1 : text;
	char want[32];

	if (len < 2 || *end != '\n' || memchr(text, '\0', len))
		return -EUCLEAN;
	while (end > text && end[-1] != '\n')
		end--;
	snprintf(want, sizeof(want), "end %016" PRIx64 "\n", checksum64(text, (size_t)(end - text), 0));
	if (strcmp(end, want) != 0)
		return -EUCLEAN;
	*end = '\0';
	return 0;
}

/* Why read_line() did not take a line: told by its first word, as the rest may be cut up. */
static const char *why_not(const char *line)
{
	if (strncmp(line, "layer ", 6) == 0)
		return "a layer without its parent above it, there twice, or not to be read";
	if (strncmp(line, "snapshot ", 9) == 0)
		return "a snapshot of a layer that is not above it, there twice, or not to be read";
	return "cannot be read";
}

/* why gets what is wrong, when something is. */
static int parse(struct manifest *m, char *text, size_t len, unsigned int *version_out, char why[WHY_BYTES])
{
	const uint64_t checksum = checksum64(text, len, 0);
	char *rest = text;
	char *line = strsep(&rest, "\n");
	unsigned int nr = 1;
	int r;

	snprintf(why, WHY_BYTES, "its checksum differs");
	if (sscanf(line, "umlfs manifest %u", version_out) != 1 || !rest)
		return -EUCLEAN;
	rest[-1] = '\n';
	if (check_end(text, len) < 0)
		return -EUCLEAN;
	if (*version_out > FORMAT_MANIFEST_VERSION)
		return -EPROTONOSUPPORT;
	while ((line = strsep(&rest, "\n")) && (rest || *line)) {
		nr++;
		r = read_line(m, line);
		if (r < 0) {
			snprintf(why, WHY_BYTES, "line %u: %s", nr, why_not(line));
			return r;
		}
	}
	r = check_whole(m);
	if (r < 0)
		snprintf(why, WHY_BYTES, "its layers, snapshots and numbers do not fit each other");
	if (r == 0) {
		r = check_form(m, len, checksum);
		if (r < 0)
			snprintf(why, WHY_BYTES, "no umlfs writes it like that");
	}
	return r;
}

static int read_file(int dirfd, const char *name, struct manifest *out, unsigned int *version_out, char why[WHY_BYTES])
{
	cleanup_free char *text = NULL;
	struct manifest m = {0};
	size_t len = 0;
	int r;

	snprintf(why, WHY_BYTES, "it is no regular file");
	r = io_read_file(dirfd, name, FILE_MAX, &text, &len);

	if (r == 0)
		r = parse(&m, text, len, version_out, why);
	if (r < 0)
		manifest_fini(&m);
	else
		*out = m;
	return r;
}

int manifest_read(int dirfd, const char *label, const struct log *log, struct manifest *out)
{
	unsigned int version = 0;
	char why[WHY_BYTES];
	int r = read_file(dirfd, file_name, out, &version, why);

	if (r == 0 || r == -ENOENT)
		return r;
	if (r == -EPROTONOSUPPORT)
		return log_error(log, r, "%s: made by a newer umlfs (version %u): update umlfs", label, version);
	if (r == -EUCLEAN)
		return log_error(log, r, "%s: damaged: %s; restore it from a backup, or start a new session", label,
		                 why);
	return log_errno(log, r, "%s", label);
}

bool manifest_is_there(int dirfd)
{
	struct manifest m;

	if (manifest_read(dirfd, "", NULL, &m) < 0)
		return false;
	manifest_fini(&m);
	return true;
}

void manifest_keep_old(int dirfd)
{
	if (linkat(dirfd, file_name, dirfd, old_name, 0) < 0)
		return; /* the first manifest, or no hard links here: then only a power cut may need a backup */
}

void manifest_drop_old(int dirfd)
{
	unlinkat(dirfd, old_name, 0);
}

bool manifest_has_old(int dirfd)
{
	return faccessat(dirfd, old_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int manifest_read_old(int dirfd, struct manifest *out)
{
	unsigned int version;
	char why[WHY_BYTES];

	return read_file(dirfd, old_name, out, &version, why);
}

int manifest_take_old(int dirfd)
{
	return renameat(dirfd, old_name, dirfd, file_name) < 0 ? -errno : 0;
}
