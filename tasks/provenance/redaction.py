# SPDX-License-Identifier: MIT
"""Removal of secrets and machine folders from the values of a manifest.

Passwords can be guessed offline against a profile's password hash.  So a manifest has only a
digest of the hash: it shows that a password changed, and cannot be guessed against, because the
salt is unknown.  User and password are removed from addresses.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from tasks.config.settings import Paths
from tasks.util import secret_patterns
from tasks.util.checkout import CHECKOUT
from tasks.util.files import with_final_names
from tasks.util.process import CREDENTIALS

LOCKED_PASSWORDS = ("", "*", "!")  # values of a password field that are no password hash
# The number of jobs depends on the machine; the results do not depend on it.
JOBS = re.compile(r"((?<=[\s=])-j|\s-processors |\s--jobs=|\s-p=|\sGOMAXPROCS=)\d+(?=\s|$)")


def text(value: str) -> str:
    """Return `value` without users and passwords in addresses and without values that look secret."""
    return secret_patterns.redacted(value)


def without_credentials(value: str) -> str:
    """Return `value` without users and passwords in addresses."""
    return CREDENTIALS.sub("://***@", value)


def digest(secret: str) -> str:
    """Return the digest of a secret, or the value itself if it is no password hash."""
    return secret if secret in LOCKED_PASSWORDS else "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def table(values: Any, redact: Callable[[str], str] = text) -> Any:
    """Return `values` (tables, arrays, plain values) with passwords as digests and texts redacted."""
    if isinstance(values, Mapping):
        return {
            name: digest(item) if name == "password" and isinstance(item, str) else table(item, redact)
            for name, item in values.items()
        }
    if isinstance(values, list | tuple):
        return [table(item, redact) for item in values]
    return redact(values) if isinstance(values, str) else values


def command(paths: Paths, line: str) -> str:
    """Return a logged command without secrets, and with placeholders for folders and job counts."""
    line = with_final_names(text(line))
    folders = {
        str(paths.output): "${OUTPUT}",
        str(paths.cache): "${CACHE}",
        **{str(root): f"${{{name}}}" for name, root in CHECKOUT.roots().items()},
    }
    for folder in sorted(folders, key=len, reverse=True):
        pieces = re.split(re.escape(folder) + r"(?![\w.-])", line)
        line = folders[folder].join(pieces)
    line = re.sub(re.escape(tempfile.gettempdir()) + r"/(tmp|tcbuild-)[^\s'\"/]*", "${TMP}", line)
    return JOBS.sub(r"\1${JOBS}", line)
