"""Options of the scaling experiments, and the seeds of their networks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Options:
    r"""Sizes and data of the scaling experiments.

    **Arguments:** `widths`, `depths`: what is measured, ascending; an experiment may leave out the largest where they
    cost too much for it.  `repeats`: independent networks at each point; `seed`: of everything.  `data`: path of an
    image set, or None for the generated stand-in.  `batch`: images in the batch.  `accelerator`: sizes of the paper
    for the CNN and the transformer, which take hours without a GPU.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    repeats: int
    seed: int
    data: str | None = None
    batch: int = 64
    accelerator: bool = False

    def widths_up_to(self, width: int) -> tuple[int, ...]:
        """The widths that are at most `width`, or the smallest one if none is."""
        return tuple(w for w in self.widths if w <= width) or self.widths[:1]

    def some_depths(self, count: int, most: int) -> tuple[int, ...]:
        """At most `count` of the depths that are at most `most`, spread over them."""
        known = [d for d in self.depths if d <= most] or list(self.depths[:1])
        if len(known) <= count:
            return tuple(known)
        last = len(known) - 1
        return tuple(known[round(k * last / max(1, count - 1))] for k in range(count))


def network_seed(seed: int, *parts: Any) -> int:
    """A 64-bit seed for one network: every size and repeat has weights of its own, so that points are independent."""
    text = "/".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
