r"""Every error that pcbench raises on purpose, each a subclass of a builtin.

Messages say what was received, what was needed and what to do next.  Errors that concern an implementation under
test carry enough text to become a verdict without a traceback.
"""

from __future__ import annotations


class PcbenchError(Exception):
    """Base of everything pcbench raises on purpose; catch it to catch all of them."""


class ProblemError(PcbenchError, ValueError):
    """A problem, network or line of a problem is contradictory, impossible or misspelt."""


class ManifestError(PcbenchError, ValueError):
    """An adapter's manifest names a capability or a convention that does not exist, or contradicts itself."""


class TheoryError(PcbenchError, ValueError):
    """A closed form was asked about a network that it does not describe."""


class UsageError(PcbenchError, ValueError):
    """A command, option, law id or implementation name that pcbench does not know."""


class MissingLibraryError(PcbenchError, ImportError):
    """The library behind an adapter is not installed in the interpreter that was asked to run it."""


class InstallationError(PcbenchError, RuntimeError):
    """An environment for a library could not be made; the message holds the cause and where the log is."""


class ImplementationError(PcbenchError, RuntimeError):
    """Something went wrong inside an implementation under test; the subclass says what."""


class AdapterError(ImplementationError):
    """The adapter raised an exception; the message holds its type and text, `traceback` the rest."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class ContractError(ImplementationError):
    """An answer had the wrong shape, type or dtype, was not finite, or an input was overwritten."""


class NotFiniteError(ContractError):
    """An answer held NaN or infinity."""


class WorkerCrashError(ImplementationError):
    """The worker process ended, was killed, ran out of memory or sent bytes that are no frame."""

    def __init__(self, message: str, stderr: str = "") -> None:
        super().__init__(message)
        self.stderr = stderr


class WorkerTimeoutError(ImplementationError):
    """The implementation did not answer within the time allowed for one call."""


def rebuild(name: str, message: str, detail: str = "") -> PcbenchError:
    """The error that another process described: of the class called `name` if that is pcbench's, else `AdapterError`.

    `detail`, a traceback or what was printed, is kept where the class has a place for it.
    """
    cls = globals().get(name)
    if not (isinstance(cls, type) and issubclass(cls, PcbenchError)):
        cls = AdapterError
    return cls(message, detail) if issubclass(cls, (AdapterError, WorkerCrashError)) else cls(message)


def error_text(error: Exception) -> str:
    """The message, and below it the end of the traceback or of what the implementation printed, if there is any."""
    tail = str(getattr(error, "stderr", "") or getattr(error, "traceback", "") or "").strip().splitlines()[-12:]
    return "\n".join([str(error), *(f"  | {line}" for line in tail)])


def first_line(error: Exception) -> str:
    """The first line of the message, for a table, or the name of the class if there is no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
