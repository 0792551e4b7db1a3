/*
 * unit_change: promises of layer_change: what the effects of a record come to.
 * Invariant: both worlds start the same and get the same effects.
 * Called by meson test.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"
#include "unit_dump.h"

enum { NAMES = 4, ROUNDS = 400, MOST_EFFECTS = 6 };

static const char *const names[NAMES] = {"a", "b", "c", "d"};

static void fill_base(int basefd)
{
	for (unsigned int i = 0; i < 2; i++)
		place_put(basefd, names[i], names[i], 1);
	assert_int_equal(symlinkat("target", basefd, "link"), 0);
}

struct worlds {
	struct world together; /* the effects of a round in one record */
	struct world apart;    /* each in a record of its own */
	uint64_t inos[NAMES], link;
};

static int setup(void **state)
{
	struct worlds *ws = calloc(1, sizeof(*ws));

	world_make(&ws->together, fill_base);
	world_make(&ws->apart, fill_base);
	for (unsigned int i = 0; i < NAMES; i++)
		ws->inos[i] = world_ino(&ws->together, names[i % 2]);
	ws->link = world_ino(&ws->together, "link");
	*state = ws;
	return 0;
}

static int teardown(void **state)
{
	struct worlds *ws = *state;

	world_fini(&ws->together);
	world_fini(&ws->apart);
	free(ws);
	return 0;
}

enum plan_kind { PLAN_NAME, PLAN_GONE, PLAN_OWNER, PLAN_MODE, PLAN_TARGET, PLAN_NEW, PLAN_KINDS };

struct plan {
	enum plan_kind kind;
	uint64_t ino;
	unsigned int name, number;
};

static struct plan random_plan(struct worlds *ws, struct unit_random *random)
{
	struct plan p = {
		.kind = (enum plan_kind)unit_random(random, PLAN_KINDS),
		.ino = ws->inos[unit_random(random, NAMES)],
		.name = (unsigned int)unit_random(random, NAMES),
		.number = (unsigned int)unit_random(random, 8),
	};

	if (p.kind == PLAN_TARGET || (p.kind == PLAN_OWNER && p.number % 2))
		p.ino = ws->link;
	if (p.kind == PLAN_NEW) {
		p.ino = session_new_ino(&ws->together.store->session);
		assert_true(session_new_ino(&ws->apart.store->session) == p.ino);
		ws->inos[p.name] = p.ino;
	}
	return p;
}

static void add(struct record *record, const struct plan *p)
{
	struct inode attr = {.ino = p->ino, .mode = S_IFREG | 0600 | p->number, .uid = p->number, .nlink = 1};
	const char *name = names[p->name];
	char target[2] = {(char)('0' + p->number)};

	switch (p->kind) {
	case PLAN_NAME:
		record_entry(record, 1, name, 1, p->ino);
		break;
	case PLAN_GONE:
		record_entry(record, 1, name, 1, 0);
		break;
	case PLAN_OWNER:
		record_inode(record, &attr, INODE_UID);
		break;
	case PLAN_MODE:
		record_inode(record, &attr, INODE_MODE);
		break;
	case PLAN_TARGET:
		record_target(record, p->ino, target, 1);
		break;
	case PLAN_NEW:
		record_inode(record, &attr, INODE_NEW | INODE_MODE | INODE_UID | INODE_NLINK);
		break;
	case PLAN_KINDS:
		break;
	}
}

static void apply(struct world *w, const struct plan *plans, unsigned int n)
{
	struct session *s = &w->store->session;

	record_start(&s->record);
	for (unsigned int i = 0; i < n; i++)
		add(&s->record, &plans[i]);
	assert_int_equal(session_apply(s), 0);
}

static void expect_same(struct worlds *ws, const char *when)
{
	char *want = dump_world(&ws->apart, DUMP_INOS);

	dump_expect_world(&ws->together, DUMP_INOS, want, when);
	free(want);
}

/* Also what an effect adds or drops that another one before it in the same record is about. */
static void effects_come_to_the_same_in_one_record_or_in_many(void **state)
{
	struct worlds *ws = *state;
	struct unit_random random = {.state = unit_number("UMLFS_CHANGE_SEED", 1)};

	for (unsigned int round = 0; round < ROUNDS; round++) {
		struct plan plans[MOST_EFFECTS];
		unsigned int n = 1 + (unsigned int)unit_random(&random, MOST_EFFECTS);

		for (unsigned int i = 0; i < n; i++) {
			plans[i] = random_plan(ws, &random);
			apply(&ws->apart, &plans[i], 1);
		}
		apply(&ws->together, plans, n);
		expect_same(ws, "after a record");
		if (round % 8 == 7) {
			char name[16];

			snprintf(name, sizeof(name), "%u", round);
			world_snapshot(&ws->together, name);
			world_snapshot(&ws->apart, name);
		}
		if (round % 50 == 49) {
			world_reopen(&ws->together);
			expect_same(ws, "after a replay");
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(effects_come_to_the_same_in_one_record_or_in_many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
