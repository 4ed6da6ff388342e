"""Load an implementation from where its author keeps it: `package.module:attribute` or `path/to/file.py:attribute`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from pcbench.errors import AdapterError, ManifestError, MissingLibraryError, PcbenchError, UsageError
from pcbench.protocol.implementation import Manifest

REQUIRED_METHODS = ("predict", "energy", "infer")


def load(spec: str) -> Any:
    """The implementation that `spec` names; the attribute defaults to `implementation`.

    The attribute may be an instance, or a class or function that is called without arguments and returns one.  The
    current directory is importable, and the directory of a file too.

    **Raises:** `UsageError` if there is no such module, file or attribute, or it is no implementation;
    `MissingLibraryError` if the adapter needs a module that this interpreter lacks; `ManifestError` if its manifest
    is none; `AdapterError` if it raises anything else.
    """
    place, _, attribute = spec.partition(":")
    attribute = attribute or "implementation"
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    is_file = place.endswith(".py") or os.sep in place
    module = _run_adapter_code(spec, lambda: _file(place) if is_file else _module(place))
    try:
        found = getattr(module, attribute)
    except AttributeError:
        public = [name for name in vars(module) if not name.startswith("_")]
        raise UsageError(
            f"implementation {spec!r}: {place} has no attribute {attribute!r}; it has {', '.join(public) or 'none'}. "
            "Write PLACE:ATTRIBUTE, or name a factory `implementation`"
        ) from None
    return instantiate(found, spec)


def instantiate(found: Any, spec: str) -> Any:
    """The implementation that `found` is, or gives when it is called; `spec` is what errors call it.

    **Raises:** as `load`.
    """
    if isinstance(found, type) or (callable(found) and not hasattr(found, "manifest")):
        found = _run_adapter_code(spec, found)
    return check_methods(found, spec)


def check_methods(implementation: Any, spec: str) -> Any:
    """`implementation` itself, if it has the required methods and a manifest.

    **Raises:** `UsageError` or `ManifestError`, saying what is missing.
    """
    missing = [name for name in REQUIRED_METHODS if not callable(getattr(implementation, name, None))]
    if missing:
        raise UsageError(
            f"implementation {spec!r} gave a {type(implementation).__name__} without {', '.join(missing)}: "
            "needed the methods of pcbench.Implementation"
        )
    manifest = _run_adapter_code(spec, lambda: getattr(implementation, "manifest", None))
    if not isinstance(manifest, Manifest):
        raise ManifestError(
            f"implementation {spec!r}: its `manifest` is a {type(manifest).__name__}, needed a pcbench.Manifest"
        )
    return implementation


def _run_adapter_code(spec: str, action: Any) -> Any:
    """Run the adapter's own code, giving each way to fail the error that says what to do."""
    try:
        return action()
    except PcbenchError:
        raise
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"implementation {spec!r} needs the module {error.name!r}, which {sys.executable} lacks: "
            "install it there, or name the interpreter that has it (--python PATH; in pytest --pcn-python PATH)"
        ) from error
    except (Exception, SystemExit) as error:
        raise AdapterError(
            f"loading {spec!r} raised {type(error).__name__}: {error}", _adapter_traceback(error)
        ) from error


def _adapter_traceback(error: BaseException) -> str:
    """The traceback without the frames of pcbench and of the import system: the adapter's own lines are what counts."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__ and not frame.filename.startswith("<frozen ")]
    return "".join([*traceback.format_list(own), *traceback.format_exception_only(type(error), error)])


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise UsageError(
                f"implementation {name!r}: no module {error.name!r} in {sys.executable} nor in {os.getcwd()}; "
                "give a module that can be imported there or the path of a .py file"
            ) from None
        raise
    except (ValueError, TypeError) as error:
        if not name or name.startswith("."):
            raise UsageError(f"implementation {name!r}: needed package.module or path/to/file.py") from error
        raise


def _file(path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise UsageError(f"implementation {path!r}: no such file in {os.getcwd()}")
    name = "pcbench_adapter_" + "".join(c if c.isalnum() else "_" for c in os.path.splitext(os.path.basename(path))[0])
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"implementation {path!r}: not a Python file, needed a name that ends in .py")
    directory = os.path.dirname(os.path.abspath(path))
    if directory not in sys.path:
        sys.path.append(directory)  # last: a file called torch.py must not hide the library of that name
    if isinstance(spec.loader, SourceFileLoader):
        spec.loader = _AsItIs(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up by name
    spec.loader.exec_module(module)
    return module


class _AsItIs(SourceFileLoader):
    """Compiles the file that is there: Python takes bytecode for fresh if the source has its size and its second."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)
