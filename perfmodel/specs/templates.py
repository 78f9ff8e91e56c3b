"""Commented files to start from, behind ``perfmodel init``."""

from __future__ import annotations

from perfmodel.errors import UsageError, nearest
from perfmodel.specs.kinds import package_folder


def template_kinds() -> list[str]:
    """Kinds that have a template."""
    return sorted(path.stem for path in (package_folder() / "catalog" / "templates").glob("*.yaml"))


def template(kind: str) -> str:
    """A commented file of a kind to start from; it is valid as it stands.

    Raises
    ------
    UsageError
        There is no template of that kind; the message lists them.
    """
    path = package_folder() / "catalog" / "templates" / f"{kind}.yaml"
    kinds = template_kinds()
    if kind not in kinds:
        raise UsageError(f"no template for {kind!r}; templates: {', '.join(kinds)}{nearest(kind, kinds)}")
    return path.read_text(encoding="utf-8")
