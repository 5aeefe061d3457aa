# SPDX-License-Identifier: MIT
"""Faults: whatever happens in the middle of a run, one plain `./doit iso` afterwards makes it good."""
