"""Profiles `smoke`, `standard` and `thorough`: how much evidence a run gathers."""

from __future__ import annotations

from dataclasses import dataclass

from pcbench.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How many examples a law gets, and from what.

    **Arguments:** `examples` per law over all groups; `groups` into which they are split, fixed so that the number of
    processes changes nothing; `shapes` in the palette; `minimum` conclusive examples below which a law is
    inconclusive; `shrink` whether failing problems are made smaller.
    """

    name: str
    examples: int
    groups: int
    shapes: int
    minimum: int
    shrink: bool = True

    def needed_examples(self, ladder: str) -> int:
        """The conclusive examples that a law needs; one experiment, if it climbs a ladder."""
        return 1 if ladder else self.minimum


PROFILES = {
    p.name: p
    for p in (
        Profile(name="smoke", examples=16, groups=2, shapes=4, minimum=4),
        Profile(name="standard", examples=104, groups=4, shapes=16, minimum=100),
        Profile(name="thorough", examples=2000, groups=8, shapes=32, minimum=1000),
    )
}


def profile_named(name: str) -> Profile:
    """The profile of this name.

    **Raises:** `UsageError` for a name that does not exist.
    """
    if name not in PROFILES:
        raise UsageError(f"profile {name!r} does not exist: needed one of {', '.join(PROFILES)}")
    return PROFILES[name]
