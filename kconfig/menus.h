/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs here share, which are compiled against a tree's scripts/kconfig; lkc.h comes first. */

/* Depth first through the menu tree; menu_next() came only after 5.4. */
static struct menu *following(struct menu *menu)
{
	if (menu->list)
		return menu->list;
	while (menu && !menu->next)
		menu = menu->parent;
	return menu ? menu->next : NULL;
}
