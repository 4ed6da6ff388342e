"""The register of the adapters that come with pcbench, by name.

The register is data: reading it imports no adapter and no library, which may live in other interpreters.
"""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass
from pathlib import Path

from pcbench.environments import catalogue as environments
from pcbench.errors import MissingLibraryError, UsageError


@dataclass(frozen=True, kw_only=True)
class AdapterEntry:
    """One adapter that comes with pcbench.

    **Arguments:** `name` on the command line; `spec` of the object that answers, `module:attribute`; `description` in
    one line; `probe`, the top-level module whose presence in an interpreter means that the library is installed there;
    `timed`, the spec of the same implementation as it is to be timed, where answering thousands of small questions asks
    for another one; `clone`, the address of the repository of a library that is not packaged, which is cloned and put
    on the path; `environment`, the name of the one it runs in if that was made (see `pcbench.environments.catalogue`),
    empty if there is none.
    """

    name: str
    spec: str
    description: str
    probe: str
    timed: str = ""
    clone: str = ""
    environment: str = ""

    @property
    def install(self) -> str:
        """What to give to `pip install`, as in its environment; empty if it is cloned or comes with pcbench."""
        if self.clone or not self.environment:
            return ""
        environment = environments.ENVIRONMENTS[self.environment]
        return environment.source or environment.requirements[0]


def _adapters(module: str, variants: dict[str, tuple[str, str]], **shared: str) -> list[AdapterEntry]:
    """The adapters in one module of `pcbench.adapters`, by name with the attribute and the description of each.

    `shared` are the fields of `AdapterEntry` that are the same for all.
    """
    return [
        AdapterEntry(name=name, spec=f"pcbench.adapters.{module}:{attribute}", description=description, **shared)
        for name, (attribute, description) in variants.items()
    ]


_ENTRIES = (
    *_adapters(
        "reference",
        {"reference": ("implementation", "the PCN that comes with pcbench, in JAX")},
        probe="jax",
        timed="pcbench.adapters.reference:compiled_for_speed",
    ),
    *_adapters(
        "reference_architectures",
        {
            "reference-architectures": (
                "implementation",
                "the residual CNNs and transformers that come with pcbench, in JAX",
            )
        },
        probe="jax",
    ),
    *_adapters(
        "numpy",
        {"numpy": ("implementation", "a plain, eager PCN in NumPy, written independently of the reference")},
        probe="numpy",
    ),
    *_adapters(
        "fabricpc",
        {
            "fabricpc": ("implementation", "FabricPC: graphs of predictive coding nodes, in JAX"),
            "fabricpc-ce": ("cross_entropy", "FabricPC with softmax and cross-entropy at the output"),
            "fabricpc-mupc": ("mupc", "FabricPC with its own muPC scaling of predictions and of top-down gradients"),
        },
        probe="fabricpc",
        environment="fabricpc",
    ),
    *_adapters(
        "torch",
        {"torch": ("implementation", "layers of PyTorch and an energy that autograd differentiates")},
        probe="torch",
        environment="torch",
    ),
    *_adapters(
        "torch2pc",
        {"torch2pc": ("implementation", "Torch2PC: strict predictive coding of sequential models, in PyTorch")},
        probe="TorchSeq2PC",
        clone="https://github.com/RobertRosenbaum/Torch2PC",
        environment="torch",
    ),
    *_adapters(
        "preco",
        {
            "preco": ("implementation", "PRECO: hierarchical predictive coding networks, in PyTorch and float32"),
            "preco-float64": ("float64", "PRECO in float64, its step size included, by activities and gradients alone"),
        },
        probe="PRECO",
        clone="https://github.com/bjornvz/PRECO",
        environment="torch",
    ),
    *_adapters(
        "pctrainer",
        {"pctrainer": ("implementation", "PCTrainer and PCLayer of Bogacz-Group/PredictiveCoding, in PyTorch")},
        probe="predictive_coding",
        clone="https://github.com/Bogacz-Group/PredictiveCoding",
        environment="torch",
    ),
    *_adapters(
        "jpc",
        {
            "jpc": (
                "implementation",
                "jpc: predictive coding networks in JAX, with optax's updates of activities and weights",
            ),
            "jpc-sp": ("sp", "jpc's closed form of linear networks, standard parameterisation"),
            "jpc-sp-gamma": ("sp_gamma", "jpc's closed form of linear networks, standard parameterisation with gamma"),
            "jpc-ntp": ("ntp", "jpc's closed form of linear networks, neural tangent parameterisation"),
            "jpc-mupc": ("mupc", "jpc's closed form of linear networks, its μPC with gamma"),
            "jpc-solve-inference": ("solve_inference", "jpc's inference of linear networks by diffrax"),
        },
        probe="jpc",
        environment="jpc",
    ),
    *_adapters(
        "pcx",
        {
            "pcx": ("implementation", "PCX: modules, value nodes and tracked parameters, in JAX"),
            "pcx-unseeded": ("unseeded", "PCX with its global random key left as an exception leaves it"),
        },
        probe="pcx",
        environment="pcx",
    ),
    *_adapters(
        "pcx_cnn",
        {"pcx-cnn": ("implementation", "PCX's convolutional layers, as residual CNNs")},
        probe="pcx",
        environment="pcx",
    ),
    *_adapters(
        "ngclearn",
        {
            "ngclearn": ("implementation", "ngc-learn: contexts of cells and synapses, compiled to processes, in JAX"),
            "ngclearn-bounded": ("bounded", "ngc-learn with the soft bound of its weights, which is its default"),
        },
        probe="ngclearn",
        environment="ngclearn",
    ),
)
KNOWN: dict[str, AdapterEntry] = {entry.name: entry for entry in _ENTRIES}
"""The adapters that come with pcbench, by name."""


def known_failures_file(name: str) -> Path | None:
    """The file of the failures that are known of an adapter, for `pcbench check --known-failures`, if it has one."""
    if name not in KNOWN:
        return None
    path = Path(__file__).with_name("known_failures") / f"{name}.json"
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


def timing_spec(spec: str) -> str:
    """The spec to load for timing what `spec` names: itself, unless its adapter has one for that purpose."""
    return next((entry.timed for entry in KNOWN.values() if entry.spec == spec and entry.timed), spec)


def locate(name_or_spec: str, python: str | None = None, in_process: bool = False) -> tuple[str, str | None]:
    """The spec behind what a user typed, and the interpreter to run it in, None for pcbench's own.

    A `python` that was asked for comes first, then the environment that `pcbench env create` made for an adapter that
    comes with pcbench, then pcbench's own interpreter, whether or not it has the library.

    **Raises:** `UsageError` as `resolve`, for an environment that was made and is broken, and for an implementation
    that is to run both `in_process` and in another interpreter.
    """
    spec = resolve(name_or_spec)
    if in_process and python is not None:
        raise UsageError("--in-process runs the implementation in pcbench's own interpreter: leave out --python")
    if python or in_process:
        return spec, python
    name = next((entry.environment for entry in KNOWN.values() if spec in (entry.spec, entry.timed)), "")
    return spec, environments.interpreter(name) if name else None


def locate_pair(text: str) -> tuple[str, str, str]:
    """`IMPL` or `IMPL=PYTHON` as its name, its spec and its interpreter as `locate`, empty for pcbench's own.

    **Raises:** `UsageError` as `locate`.
    """
    name, _, given = text.partition("=")
    spec, python = locate(name, given)
    return name, spec, python or ""


def missing_library(name: str, error: ImportError) -> MissingLibraryError:
    """What an adapter raises if its library cannot be imported: the commands that install it."""
    entry = KNOWN[name]
    return MissingLibraryError(
        f"{entry.probe} cannot be imported in {sys.executable} ({error}): {installation_advice(entry)}"
    )


def installation_advice(entry: AdapterEntry) -> str:
    """The commands after which pcbench finds the library of an adapter."""
    install = f"`pip install {entry.install or entry.probe}`"
    if not entry.environment:
        return f"{install}, or `pcbench check {entry.name} --python PATH` with the interpreter that has it"
    environment = environments.ENVIRONMENTS[entry.environment]
    asked = f"given as `pcbench check {entry.name} --python PATH`"
    if not entry.clone:
        return (
            f"`{environment.command}` makes an environment in which pcbench then runs it, of {environment.pythons} "
            f"({environment.why}); or {install} in one of your own, {asked}"
        )
    there = environments.read(environment.name) is not None
    add = f"`pcbench env add {environment.name} PATH`" if there else f"`{environment.command} --add PATH`"
    return (
        f"`git clone {entry.clone}` and {add} put it into an environment in which pcbench then runs it; or "
        f"`pip install {' '.join(environment.requirements)}` in one of your own, {asked}, with the clone on its path: "
        "a line in a .pth file of its site-packages, or PYTHONPATH for pcbench's own interpreter"
    )
