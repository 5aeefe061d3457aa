// SPDX-License-Identifier: GPL-2.0
/*
 * Find with the kernel's own Kconfig engine which config lines bring a config about.
 *
 *	minimise KCONFIG-FILE BASE LINES GOAL SCRATCH >RECORDS
 *
 * It is compiled and run as explain.c is.  BASE and GOAL are configs, LINES has one config
 * line a line, SCRATCH is a file it may write.  BASE with some of LINES behind it is read as
 * `make olddefconfig` reads a config; the result is compared with that of GOAL.  A record is
 * a line of fields set apart by tabs:
 *
 *	differs NAME GOT WANTED   BASE with all LINES does not give GOAL (any number)
 *	need    NUMBER            a line of LINES, counted from 1, that must stay
 *	failed  FILE REASON
 *	end                       the last line; without it the run failed
 *
 * Without any of the lines left out, GOAL comes about; without a line that must stay, it does
 * not.  A line that only says what another one brings about is left out first: what cannot be
 * set by hand, then `is not set`, then what is selected, then what stands later in the menus.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lkc.h"
#include "menus.h"

#define MANY 500

struct line {
	char *text;
	int number;
	int rank;	/* lines of lower rank are left out first */
	bool kept;
};

/* The value of a symbol in GOAL; NULL if a .config has no line for it. */
struct wanted {
	struct symbol *sym;
	char *value;
};

static struct wanted *goal;
static size_t goals;
static struct line *lines;
static size_t count;
static size_t firsts;	/* lines of rank 0, which stand first */
static char *base;
static const char *scratch;

static void fail(const char *what)
{
	printf("failed\t%s\t%s\n", what, strerror(errno));
	exit(1);
}

static void *grown(void *array, size_t used, size_t size)
{
	void *more = used & (used - 1) ? array : realloc(array, (used ? used * 2 : 1) * size);

	if (!more)
		fail("memory");
	return more;
}

static const char *value_of(struct symbol *sym)
{
	sym_calc_value(sym);
	return sym->flags & SYMBOL_WRITE ? sym_get_string_value(sym) : NULL;
}

static bool is_same(const char *one, const char *other)
{
	return one && other ? !strcmp(one, other) : one == other;
}

/* Read a config as `make olddefconfig` does. */
static void read_config(const char *file)
{
	if (conf_read(file)) {
		fail(file);
	}
}

static void read_goal(const char *file)
{
	struct menu *menu;

	read_config(file);
	for (menu = rootmenu.list; menu; menu = following(menu)) {
		const char *value;

		if (!menu->sym || !menu->sym->name)
			continue;
		goal = grown(goal, goals, sizeof(*goal));
		value = value_of(menu->sym);
		goal[goals].sym = menu->sym;
		goal[goals++].value = value ? strdup(value) : NULL;
	}
}

static char *read_text(const char *file)
{
	FILE *stream = fopen(file, "r");
	size_t size = 0;
	char *text = NULL;

	if (!stream)
		fail(file);
	if (getdelim(&text, &size, '\0', stream) < 0)
		text = strdup("");
	fclose(stream);
	return text;
}

/* The symbol of `CONFIG_X=...` or of `# CONFIG_X is not set`. */
static struct symbol *symbol_of(const char *text)
{
	const char *start = strstr(text, "CONFIG_");
	struct symbol *sym;
	char *name;

	if (!start)
		return NULL;
	start += strlen("CONFIG_");
	name = strndup(start, strcspn(start, "= "));
	sym = sym_find(name);
	free(name);
	return sym;
}

static bool has_line(const char *text, const char *line)
{
	size_t length = strlen(line);
	const char *at;

	for (at = text; (at = strstr(at, line)); at++)
		if ((at == text || at[-1] == '\n') && at[length] == '\n')
			return true;
	return false;
}

/* Tell whether BASE has a line for the symbol. */
static bool is_in_base(const struct symbol *sym)
{
	char name[256];

	snprintf(name, sizeof(name), "CONFIG_%s=", sym->name);
	if (strstr(base, name))
		return true;
	snprintf(name, sizeof(name), "# CONFIG_%s is not set", sym->name);
	return has_line(base, name);
}

/* Of needless lines nearly all are of rank 0; minimal: what `make savedefconfig` makes of GOAL. */
static int rank_of(const char *text, const char *minimal)
{
	struct symbol *sym = symbol_of(text);

	if (!sym)
		return 0;
	sym_calc_value(sym);
	if (sym->visible == no || (!has_line(minimal, text) && !is_in_base(sym)))
		return 0;
	if (text[0] == '#')
		return 1;
	return sym->rev_dep.tri != no || sym->implied.tri != no ? 2 : 3;
}

static int by_rank(const void *one, const void *other)
{
	const struct line *a = one, *b = other;

	return a->rank != b->rank ? a->rank - b->rank : b->number - a->number;
}

/* GOAL must be the config that was read last: ranks are of its values. */
static void read_lines(const char *file)
{
	char *text = read_text(file), *minimal, *at;

	if (conf_write_defconfig(scratch))
		fail(scratch);
	minimal = read_text(scratch);
	for (at = strtok(text, "\n"); at; at = strtok(NULL, "\n")) {
		lines = grown(lines, count, sizeof(*lines));
		lines[count] = (struct line){ at, (int)count + 1, rank_of(at, minimal), true };
		firsts += lines[count++].rank == 0;
	}
	free(minimal);
	qsort(lines, count, sizeof(*lines), by_rank);
}

/* Read BASE with the lines that are kept.  Tell whether that gives GOAL, or print how it differs. */
static bool gives_goal(bool print)
{
	FILE *stream = fopen(scratch, "w");
	bool same = true;
	size_t i;

	if (!stream)
		fail(scratch);
	fputs(base, stream);
	for (i = 0; i < count; i++)
		if (lines[i].kept)
			fprintf(stream, "%s\n", lines[i].text);
	if (fclose(stream))
		fail(scratch);
	read_config(scratch);
	for (i = 0; i < goals && (same || print); i++) {
		const char *value = value_of(goal[i].sym);

		if (is_same(value, goal[i].value))
			continue;
		same = false;
		if (print)
			printf("differs\t%s\t%s\t%s\n", goal[i].sym->name, value ? value : "n",
			       goal[i].value ? goal[i].value : "n");
	}
	return same;
}

/* Leave out `size` lines from `start` on, if GOAL comes about without them. */
static bool leave_out(size_t start, size_t size)
{
	size_t i, end = start + size < count ? start + size : count, kept = 0;
	bool *before = calloc(size, sizeof(*before));

	if (!before)
		fail("memory");
	for (i = start; i < end; i++) {
		before[i - start] = lines[i].kept;
		kept += lines[i].kept;
		lines[i].kept = false;
	}
	if (kept && !gives_goal(false)) {
		for (i = start; i < end; i++)
			lines[i].kept = before[i - start];
		kept = 0;
	}
	free(before);
	return kept;
}

/* Leave out as many of the lines from `start` to `end` as can go, large parts first. */
static void leave_out_parts(size_t start, size_t end, size_t size)
{
	for (; size > 1; size = (size + 1) / 2) {
		size_t at;

		for (at = start; at < end; at += size)
			leave_out(at, end - at < size ? end - at : size);
	}
}

int main(int argc, char **argv)
{
	size_t i;
	bool again;

	if (argc != 6) {
		fprintf(stderr, "usage: minimise KCONFIG-FILE BASE LINES GOAL SCRATCH\n");
		return 2;
	}
	conf_set_message_callback(NULL);
	conf_parse(argv[1]);
	scratch = argv[5];
	base = read_text(argv[2]);
	read_goal(argv[4]);
	read_lines(argv[3]);
	/* A line that comes again is a warning to conf_read(), and here the rule. */
	if (!freopen("/dev/null", "w", stderr))
		return 1;
	if (!gives_goal(true)) {
		printf("end\n");
		return fflush(stdout) ? 1 : 0;
	}
	leave_out_parts(0, firsts, firsts);
	/* Most of the others must stay if they are many. */
	leave_out_parts(firsts, count, count - firsts > MANY ? 0 : count - firsts);
	/* A line may become needless when a later one has gone; of many, each is tried once. */
	do {
		again = false;
		for (i = 0; i < count; i++)
			again |= leave_out(i, 1);
	} while (again && count - firsts <= MANY);
	for (i = 0; i < count; i++)
		if (lines[i].kept)
			printf("need\t%d\n", lines[i].number);
	printf("end\n");
	return fflush(stdout) ? 1 : 0;
}
