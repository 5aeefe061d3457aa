// SPDX-License-Identifier: GPL-2.0
/*
 * Ask the kernel's own Kconfig engine why symbols have the values they have.
 *
 *	explain KCONFIG-FILE SYMBOLS-FILE >RECORDS
 *
 * It is compiled against a tree's scripts/kconfig (headers and the objects that
 * `conf` is linked from), runs in the environment and folder `conf` runs in, and
 * reads the configuration $KCONFIG_CONFIG names.  SYMBOLS-FILE holds one symbol a
 * line, without CONFIG_.  `+NAME` also asks for the symbols that select or imply it
 * now, and for those that do so with them.  `?WORD` asks for the symbols whose name,
 * prompt or help has that text, in any case.  A record is a line of fields set apart
 * by tabs:
 *
 *	name    NAME                          every symbol the tree defines
 *	symbol  NAME                          begins what is known of a symbol asked:
 *	type    bool|tristate|integer|hex|string|unknown
 *	value   VALUE                         as a .config would say it, n if unset
 *	at      FILE:LINE                     where it is defined (any number)
 *	entry   PROMPT EXPRESSION             a definition: its prompt, what it depends on
 *	help    LINE                          ... and a line of its help
 *	prompt  LIMIT                         y|m|n, the most this prompt lets one set
 *	need    VALUE EXPRESSION              an AND-term of that prompt below y
 *	of      NAME VALUE TYPE PROMPTS AT    a symbol in that term
 *	by      NAME                          ... and one that selects it
 *	range   LOW HIGH
 *	choice  PROMPT MEMBER                 the choice it belongs to, and who holds it
 *	default VALUE EXPRESSION              the default in force
 *	select  VALUE EXPRESSION              a symbol, with its condition, selecting it
 *	imply   VALUE EXPRESSION
 *	end                                   the last line; without it the run failed
 *
 * Only what Linux 5.4 and 6.12 share of scripts/kconfig is used.  How a menu entry
 * keeps its file name differs, so positions are read from get_relations_str().
 */
#define _GNU_SOURCE /* strcasestr() */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lkc.h"
#include "menus.h"

#define MAX_SELECTORS 8

static const char *letter(tristate value)
{
	return value == yes ? "y" : value == mod ? "m" : "n";
}

static bool is_tristate(const struct symbol *sym)
{
	return sym->type == S_BOOLEAN || sym->type == S_TRISTATE;
}

static const char *value_of(struct symbol *sym)
{
	const char *text;

	sym_calc_value(sym);
	if (is_tristate(sym))
		return letter(sym->curr.tri);
	text = sym->type == S_UNKNOWN ? NULL : sym_get_string_value(sym);
	return text ? text : "n";
}

static bool is_constant(const struct symbol *sym)
{
	return sym == &symbol_yes || sym == &symbol_mod || sym == &symbol_no ||
	       (sym->flags & SYMBOL_CONST);
}

static struct menu *menu_of(const struct symbol *sym)
{
	struct menu *menu;

	for (menu = rootmenu.list; menu; menu = following(menu))
		if (menu->sym == sym)
			return menu;
	return NULL;
}

/* Print each position of `sym`, after `before` and followed by `after`. */
static void print_positions(struct symbol *sym, const char *before, const char *after)
{
	struct symbol *both[] = { sym, NULL };
	struct gstr text;
	const char *at;

	if (!menu_of(sym))
		return;
	text = get_relations_str(both, NULL);
	for (at = str_get(&text); (at = strstr(at, "Defined at ")); ) {
		at += strlen("Defined at ");
		printf("%s%.*s%s", before, (int)strcspn(at, "\n"), at, after);
	}
	str_free(&text);
}

static void print_expr(const char *key, tristate value, struct expr *expr)
{
	struct gstr text = str_new();

	expr_gstr_print(expr, &text);
	printf("%s\t%s\t%s\n", key, letter(value), str_get(&text));
	str_free(&text);
}

static int count_prompts(struct symbol *sym)
{
	struct property *prop;
	int count = 0;

	for_all_prompts(sym, prop)
		count++;
	return count;
}

/* The symbol at the left end of `SELECTOR && condition`. */
static struct symbol *leftmost(struct expr *expr)
{
	while (expr->type == E_AND)
		expr = expr->left.expr;
	return expr->type == E_SYMBOL ? expr->left.sym : NULL;
}

static void print_selectors(struct expr *expr, int *count)
{
	struct symbol *sym;

	if (!expr)
		return;
	if (expr->type == E_OR) {
		print_selectors(expr->left.expr, count);
		print_selectors(expr->right.expr, count);
		return;
	}
	sym = leftmost(expr);
	if (sym && sym->name && (*count)++ < MAX_SELECTORS)
		printf("by\t%s\n", sym->name);
}

static void print_operand(struct symbol *sym)
{
	int count = 0;

	if (!sym || !sym->name || is_constant(sym))
		return;
	printf("of\t%s\t%s\t%s\t%d\t", sym->name, value_of(sym), sym_type_name(sym->type),
	       count_prompts(sym));
	print_positions(sym, " ", "");
	printf("\n");
	if (!count_prompts(sym))
		print_selectors(sym->rev_dep.expr, &count);
}

static void print_operands(struct expr *expr)
{
	switch (expr->type) {
	case E_AND:
	case E_OR:
		print_operands(expr->left.expr);
		print_operands(expr->right.expr);
		break;
	case E_NOT:
		print_operands(expr->left.expr);
		break;
	case E_SYMBOL:
		print_operand(expr->left.sym);
		break;
	case E_EQUAL:
	case E_UNEQUAL:
	case E_LTH:
	case E_LEQ:
	case E_GTH:
	case E_GEQ:
		print_operand(expr->left.sym);
		print_operand(expr->right.sym);
		break;
	default:
		break;
	}
}

/* Print those AND-terms of `expr` that keep it below y. */
static void print_needs(struct expr *expr)
{
	tristate value;

	if (!expr)
		return;
	if (expr->type == E_AND) {
		print_needs(expr->left.expr);
		print_needs(expr->right.expr);
		return;
	}
	value = expr_calc_value(expr);
	if (value == yes)
		return;
	print_expr("need", value, expr);
	print_operands(expr);
}

/* An end of a range: a number, which is a symbol without type, or a real symbol. */
static const char *limit_of(struct symbol *sym)
{
	return sym->type == S_UNKNOWN ? sym->name : value_of(sym);
}

static void print_reverse(const char *key, struct expr *expr)
{
	if (!expr)
		return;
	if (expr->type == E_OR) {
		print_reverse(key, expr->left.expr);
		print_reverse(key, expr->right.expr);
		return;
	}
	print_expr(key, expr_calc_value(expr), expr);
}

static void print_choice(struct symbol *sym)
{
	struct menu *menu = menu_of(sym), *choice, *member;
	const char *holder = "";

	if (!menu || !sym_is_choice_value(sym))
		return;
	choice = menu->parent;
	for (member = choice->list; member; member = member->next) {
		if (!member->sym || !member->sym->name)
			continue;
		sym_calc_value(member->sym);
		if (member->sym->curr.tri == yes)
			holder = member->sym->name;
	}
	printf("choice\t%s\t%s\n", choice->prompt ? choice->prompt->text : "", holder);
}

/* Symbols that `+NAME` brought; the array grows while it is worked off. */
static struct symbol **brought;
static size_t count_brought;

static void bring(struct symbol *sym)
{
	size_t i;

	for (i = 0; i < count_brought; i++)
		if (brought[i] == sym)
			return;
	brought = realloc(brought, (count_brought + 1) * sizeof(*brought));
	if (!brought)
		exit(1);
	brought[count_brought++] = sym;
}

static void bring_selectors(struct expr *expr)
{
	struct symbol *sym;

	if (!expr)
		return;
	if (expr->type == E_OR) {
		bring_selectors(expr->left.expr);
		bring_selectors(expr->right.expr);
		return;
	}
	sym = leftmost(expr);
	if (sym && sym->name && expr_calc_value(expr) != no)
		bring(sym);
}

/* A text as one field: its tabs become spaces. */
static void print_text(const char *text, size_t length)
{
	for (; length--; text++)
		putchar(*text == '\t' ? ' ' : *text);
}

static void print_entries(const struct symbol *sym)
{
	struct menu *menu;

	for (menu = rootmenu.list; menu; menu = following(menu)) {
		const char *at = menu->help;
		struct gstr dep = str_new();

		if (menu->sym != sym)
			continue;
		if (menu->dep)
			expr_gstr_print(menu->dep, &dep);
		printf("entry\t%s\t%s\n", menu->prompt ? menu->prompt->text : "", str_get(&dep));
		str_free(&dep);
		while (at && *at) {
			size_t length = strcspn(at, "\n");

			printf("help\t");
			print_text(at, length);
			printf("\n");
			at += length + (at[length] == '\n');
		}
	}
}

static bool has_word(const struct menu *menu, const char *word)
{
	return strcasestr(menu->sym->name, word) ||
	       (menu->prompt && strcasestr(menu->prompt->text, word)) ||
	       (menu->help && strcasestr(menu->help, word));
}

static void print_symbol(const char *name)
{
	struct symbol *sym = sym_find(name);
	struct property *prop;

	printf("symbol\t%s\n", name);
	/* A symbol that is only mentioned in expressions is known but has no menu entry. */
	if (!sym || !menu_of(sym)) {
		printf("type\tunknown\n");
		return;
	}
	printf("type\t%s\n", sym_type_name(sym->type));
	printf("value\t%s\n", value_of(sym));
	print_positions(sym, "at\t", "\n");
	print_entries(sym);
	for_all_prompts(sym, prop) {
		printf("prompt\t%s\n", letter(expr_calc_value(prop->visible.expr)));
		print_needs(prop->visible.expr);
	}
	prop = sym->type == S_INT || sym->type == S_HEX ? sym_get_range_prop(sym) : NULL;
	if (prop)
		printf("range\t%s\t%s\n", limit_of(prop->expr->left.sym),
		       limit_of(prop->expr->right.sym));
	print_choice(sym);
	for_all_defaults(sym, prop) {
		tristate value = expr_calc_value(prop->visible.expr);

		if (value == no)
			continue;
		print_expr("default", value, prop->expr);
		break;
	}
	print_reverse("select", sym->rev_dep.expr);
	print_reverse("imply", sym->implied.expr);
}

static void print_selectors_too(const char *name)
{
	size_t i;

	count_brought = 0;
	if (sym_find(name))
		bring(sym_find(name));
	else
		print_symbol(name);
	for (i = 0; i < count_brought; i++) {
		print_symbol(brought[i]->name);
		bring_selectors(brought[i]->rev_dep.expr);
		bring_selectors(brought[i]->implied.expr);
	}
}

static void print_found(const char *word)
{
	struct menu *menu;
	size_t i;

	count_brought = 0;
	for (menu = rootmenu.list; menu; menu = following(menu))
		if (menu->sym && menu->sym->name && has_word(menu, word))
			bring(menu->sym);
	for (i = 0; i < count_brought; i++)
		print_symbol(brought[i]->name);
}

int main(int argc, char **argv)
{
	struct menu *menu;
	char *line = NULL;
	size_t size = 0;
	FILE *asked;

	if (argc != 3) {
		fprintf(stderr, "usage: explain KCONFIG-FILE SYMBOLS-FILE\n");
		return 2;
	}
	conf_set_message_callback(NULL);
	conf_parse(argv[1]);
	conf_read(NULL);
	asked = fopen(argv[2], "r");
	if (!asked) {
		perror(argv[2]);
		return 1;
	}
	for (menu = rootmenu.list; menu; menu = following(menu))
		if (menu->sym && menu->sym->name)
			printf("name\t%s\n", menu->sym->name);
	while (getline(&line, &size, asked) >= 0) {
		line[strcspn(line, "\r\n")] = '\0';
		if (line[0] == '+')
			print_selectors_too(line + 1);
		else if (line[0] == '?')
			print_found(line + 1);
		else
			print_symbol(line);
	}
	free(line);
	fclose(asked);
	printf("end\n");
	return fflush(stdout) ? 1 : 0;
}
