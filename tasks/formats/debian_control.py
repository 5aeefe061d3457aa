"""Control data and versions of Debian packages: deb-control(5), deb-version(7)."""

from __future__ import annotations

from collections.abc import Mapping

from debian.deb822 import Deb822, PkgRelation
from debian.debian_support import Version

from tasks.util.errors import UserError


def stanzas(text: str) -> list[Mapping[str, str]]:
    """Return the stanzas of `text`: field -> value; letter case of a field's name does not count."""
    return list(Deb822.iter_paragraphs(text.split("\n")))


def related(field: str) -> list[str]:
    """Return the packages that a relationship field names (`a (>= 1) | b:any, c`), alternatives too."""
    if not field.strip():
        return []
    return [relation["name"] for either in PkgRelation.parse_relations(field) for relation in either]


def version(text: str) -> Version:
    """Return a version that is ordered as dpkg orders it.  Raises `UserError` if `text` is none."""
    try:
        return Version(text)
    except ValueError:
        raise UserError(f"{text!r} is not the version of a Debian package") from None
