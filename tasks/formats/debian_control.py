# SPDX-License-Identifier: MIT
"""Control data and versions of Debian packages: deb-control(5), deb-version(7)."""

from __future__ import annotations

from collections.abc import Mapping

from debian.deb822 import Deb822, PkgRelation
from debian.debian_support import Version

from tasks.util.errors import UserError


def stanzas(text: str) -> list[Mapping[str, str]]:
    """Return the stanzas of `text`: field -> value.  Field names ignore letter case."""
    return list(Deb822.iter_paragraphs(text.split("\n")))


def related_packages(field: str) -> list[str]:
    """Return the package names in a relationship field (`a (>= 1) | b:any, c`), alternatives included."""
    if not field.strip():
        return []
    return [relation["name"] for either in PkgRelation.parse_relations(field) for relation in either]


def version(text: str) -> Version:
    """Return a version that sorts as in dpkg.  Raises `UserError` if `text` is no version."""
    try:
        return Version(text)
    except ValueError:
        raise UserError(f"{text!r} is not a version of a Debian package") from None
