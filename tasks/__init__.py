# SPDX-License-Identifier: MIT
"""The stages of tcbuild, one module each; `dodo.py` only declares tasks from them."""
