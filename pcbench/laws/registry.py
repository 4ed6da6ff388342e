"""Choose laws by id or pattern, follow their dependencies, and identify a set of laws by a hash."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
from collections.abc import Sequence

from pcbench.errors import UsageError
from pcbench.laws.definition import REGISTRY, Law


def select(patterns: Sequence[str] = ()) -> list[Law]:
    """The laws matching any of `patterns` (ids, `group`, or shell wildcards), in registry order; all without patterns.

    **Raises:** `UsageError` for a pattern that matches nothing, with the nearest ids.
    """
    if not patterns:
        return list(REGISTRY.values())
    chosen: set[str] = set()
    for pattern in patterns:
        found = [i for i in REGISTRY if fnmatch.fnmatchcase(i, pattern) or i.split(".")[0] == pattern]
        if not found:
            near = difflib.get_close_matches(pattern, REGISTRY, n=3, cutoff=0.4)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; `pcbench laws` lists them"
            raise UsageError(f"no law matches {pattern!r}{hint}")
        chosen.update(found)
    return [law for id, law in REGISTRY.items() if id in chosen]


def transitive_dependencies(id: str) -> set[str]:
    """Every law that the law `id` depends on, directly or through others."""
    found: set[str] = set()
    stack = list(REGISTRY[id].depends_on)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(REGISTRY[name].depends_on)
    return found


def law_set_hash(laws: Sequence[Law] | None = None) -> str:
    """12 hexadecimal digits that change when a law's statement, needs, domain or dependencies do."""
    chosen = list(REGISTRY.values()) if laws is None else list(laws)
    parts = [(law.id, law.statement, sorted(law.needs), repr(law.domain), law.depends_on) for law in chosen]
    return hashlib.sha256(repr(sorted(parts)).encode()).hexdigest()[:12]
