# The name of a hub, which all its keys begin with.

from __future__ import annotations

from ..._arguments.checks import check_text, wrong

__all__ = ("check_hub_name",)


def check_hub_name(name: str) -> str:
    """Return the hub's name. A brace in it would end the hash tag of its keys, which could become another hub's."""
    wanted = "a str without { and }, and not empty, because keys begin with {name}"
    check_text("name", name, wanted)
    if not name or "{" in name or "}" in name:
        raise wrong(ValueError, "name", wanted, name)
    return name
