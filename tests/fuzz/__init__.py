# SPDX-License-Identifier: MIT
"""Fuzzing: every parser of ours is given damaged input and must answer with a result or a `UserError`."""
