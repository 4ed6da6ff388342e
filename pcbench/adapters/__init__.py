"""Adapters: each speaks one library's own public API and declares how to read it.  This module is their register.

The register is data: reading it imports no adapter and no library, which may live in other interpreters.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from pcbench.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class AdapterEntry:
    """One adapter that comes with pcbench.

    **Arguments:** `name` on the command line; `spec` of the object that answers, `module:attribute`; `description` in
    one line; `install`, what to give to `pip install`, empty if it comes with pcbench; `probe`, the top-level module
    whose presence in an interpreter means that the library is installed there.
    """

    name: str
    spec: str
    description: str
    install: str
    probe: str


def _entries(*entries: AdapterEntry) -> dict[str, AdapterEntry]:
    return {entry.name: entry for entry in entries}


_JPC = "git+https://github.com/thebuckleylab/jpc@7d6cc05742d28b543311e6c4d4ca140ba996f8b5"
"""By commit, because its number 1.0.0 covers hundreds of them with different interfaces."""

KNOWN: dict[str, AdapterEntry] = _entries(
    AdapterEntry(
        name="reference",
        spec="pcbench.adapters.reference:implementation",
        description="the PCN that comes with pcbench, in JAX",
        install="",
        probe="jax",
    ),
    AdapterEntry(
        name="reference-architectures",
        spec="pcbench.adapters.reference_architectures:implementation",
        description="the residual CNNs and transformers that come with pcbench, in JAX",
        install="",
        probe="jax",
    ),
    AdapterEntry(
        name="numpy",
        spec="pcbench.adapters.numpy:implementation",
        description="a plain, eager PCN in NumPy, written independently of the reference",
        install="",
        probe="numpy",
    ),
    AdapterEntry(
        name="fabricpc",
        spec="pcbench.adapters.fabricpc:implementation",
        description="FabricPC: graphs of predictive coding nodes, in JAX",
        install="fabricpc==0.6.0",
        probe="fabricpc",
    ),
    AdapterEntry(
        name="fabricpc-ce",
        spec="pcbench.adapters.fabricpc:cross_entropy",
        description="FabricPC with softmax and cross-entropy at the output",
        install="fabricpc==0.6.0",
        probe="fabricpc",
    ),
    AdapterEntry(
        name="fabricpc-mupc",
        spec="pcbench.adapters.fabricpc:mupc",
        description="FabricPC with its own muPC scaling of predictions and of top-down gradients",
        install="fabricpc==0.6.0",
        probe="fabricpc",
    ),
    AdapterEntry(
        name="jpc",
        spec="pcbench.adapters.jpc:implementation",
        description="jpc: predictive coding networks in JAX, with optax's updates of activities and weights",
        install=_JPC,
        probe="jpc",
    ),
    AdapterEntry(
        name="jpc-sp",
        spec="pcbench.adapters.jpc:sp",
        description="jpc's closed form of linear networks, standard parameterisation",
        install=_JPC,
        probe="jpc",
    ),
    AdapterEntry(
        name="jpc-sp-gamma",
        spec="pcbench.adapters.jpc:sp_gamma",
        description="jpc's closed form of linear networks, standard parameterisation with gamma",
        install=_JPC,
        probe="jpc",
    ),
    AdapterEntry(
        name="jpc-ntp",
        spec="pcbench.adapters.jpc:ntp",
        description="jpc's closed form of linear networks, neural tangent parameterisation",
        install=_JPC,
        probe="jpc",
    ),
    AdapterEntry(
        name="jpc-mupc",
        spec="pcbench.adapters.jpc:mupc",
        description="jpc's closed form of linear networks, its μPC with gamma",
        install=_JPC,
        probe="jpc",
    ),
    AdapterEntry(
        name="jpc-solve-inference",
        spec="pcbench.adapters.jpc:solve_inference",
        description="jpc's inference of linear networks by diffrax",
        install=_JPC,
        probe="jpc",
    ),
)
"""The adapters that come with pcbench, by name."""


def known_failures_file(name: str) -> Path | None:
    """The file of the failures that are known of an adapter, for `pcbench check --known-failures`, if it has one."""
    if name not in KNOWN:
        return None
    path = Path(__file__).with_name(f"{name}-known-failures.json")
    return path if path.exists() else None


def resolve(name_or_spec: str) -> str:
    """The spec behind what a user typed: a known name, or a spec, `package.module` or `path.py`, with `:attribute`.

    A spec is returned as it is: whether it can be loaded is found out where it is loaded, perhaps by another
    interpreter.  A word without dot, colon or separator is taken for a name.

    **Raises:** `UsageError` for a name that is neither known nor a spec.
    """
    text = name_or_spec.strip()
    if text in KNOWN:
        return KNOWN[text].spec
    place, colon, attribute = text.rpartition(":") if not text.endswith(".py") else (text, "", "")
    if not colon:
        place, attribute = text, "implementation"
    dotted = all(part.isidentifier() for part in place.split("."))
    if attribute.isidentifier() and (place.endswith(".py") or (dotted and (colon or "." in place))):
        return text
    close = difflib.get_close_matches(text.lower(), KNOWN, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UsageError(
        f"implementation {name_or_spec!r} is not known{hint}. Known are {', '.join(KNOWN)}; "
        "your own is given as package.module:attribute, path/to/file.py or path/to/file.py:attribute"
    )


def located(text: str) -> tuple[str, str, str]:
    """`IMPL` or `IMPL=PYTHON` as its name, its spec and its interpreter, empty for pcbench's own.

    **Raises:** `UsageError` as `resolve`.
    """
    name, _, python = text.partition("=")
    return name, resolve(name), python
