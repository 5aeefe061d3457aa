#!/usr/bin/awk -f
# SPDX-License-Identifier: MIT
# A check of tests/vm/test_boot.py: says who runs it, and the sum of 1 to 10.
BEGIN {
	"id -un" | getline name
	for (i = 1; i <= 10; i++)
		sum += i
	print name, sum
}
