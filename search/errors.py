"""What goes wrong, and whose fault it is: the user's to put right, or the program's to report."""

from __future__ import annotations

import dis
import errno
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from data_prep.files import FULL, printable
from search.text import masked, plain

ERRORS_LOG = "errors.log"
OURS = tuple(
    str(Path(__file__).resolve().parents[1] / name) + os.sep
    for name in ("data_prep", "trainables", "search")
)
USER_MODULE = "resnet_tune_user_"  # names of study files of one's own begin with it


class UserError(ValueError):
    """Something that the user can put right: exit code 1, one line."""


class UsageError(UserError):
    """A wrong argument: exit code 2, one line."""


class ProgramFault(Exception):
    """Its cause is a fault of the program; the traceback has been written to `log`."""

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self.log = log


def mistake(error: BaseException) -> str | None:
    """The line that tells the user what to put right; None for a fault of the program.

    A ValueError or OSError counts where one of our own lines has raised it; the same error out of a
    library or of Python itself does not, unless it names the file that could not be had.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in FULL:
        reason = os.strerror(error.errno)
        if error.filename is None:
            return f"{reason}; make room and start again"
        return f"{error.filename}: {reason}; make room there and start again"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ValueError | OSError) and raised_by_us(error.__traceback__):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOLCK:
        return f"{error.strerror}: the file system of the folder cannot lock files; use another"
    file = users_file(error.__traceback__)
    return file and f"task file {file} fails: {type(error).__name__}: {error}; see --debug"


def raised_by_us(trace: TracebackType | None) -> bool:
    """Whether the error began at a `raise` statement in one of our packages."""
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    if not code.co_filename.startswith(OURS):
        return False
    at = (one for one in dis.get_instructions(code) if one.offset == trace.tb_lasti)
    return any(one.opname == "RAISE_VARARGS" for one in at)


def users_file(trace: TracebackType | None) -> str | None:
    """The study file of the user's own whose line has raised the error, if it was one."""
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).startswith(USER_MODULE):
            return trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
    return None


@contextmanager
def faults_logged(folder: Path) -> Iterator[None]:
    """A fault of the program in the block is written to `errors.log` in the folder."""
    try:
        yield
    except Exception as error:
        if mistake(error) is not None or isinstance(error, ProgramFault):
            raise
        raise ProgramFault(write_fault(error, folder)) from error


def write_fault(error: BaseException, folder: Path | None) -> Path:
    """Append the traceback to the folder's `errors.log`, or write a temporary file; its path."""
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    told = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    text = printable(masked(f"{when} {' '.join(sys.argv)}\n{told}\n"))
    if folder is not None and folder.is_dir():
        try:
            with (folder / ERRORS_LOG).open(
                "a", encoding="utf-8", errors="backslashreplace"
            ) as log:
                log.write(text)
            return folder / ERRORS_LOG
        except OSError:  # a read-only copy of a search, a full disk
            pass
    handle, name = tempfile.mkstemp(prefix="resnet-tune-", suffix=".log", text=True)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return Path(name)


def tell(error: Exception) -> int:
    """One line on standard error that says whose fault it is; the exit code."""
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error}\n")
        return 2
    if hasattr(error, "format_message"):  # typer's own: wrong options and arguments
        return complain(error.format_message(), 2)
    text = mistake(error)
    if text is not None:
        return complain(text, 2 if isinstance(error, UsageError) else 1)
    fault = error if isinstance(error, ProgramFault) else ProgramFault(write_fault(error, None))
    cause = error.__cause__ or error
    reason = f"{type(cause).__name__}: {cause}"
    where = f"the traceback is in {fault.log}, and --debug prints it"
    return complain(f"this is a fault of the program, not yours ({reason}); {where}", 1)


def complain(text: str, code: int) -> int:
    """One line on standard error."""
    say_last("resnet-tune: error: " + plain(" ".join(text.split())))
    return code


def say_last(line: str) -> None:
    """A line on standard error, where there is anybody left to read it."""
    with suppress(OSError):
        sys.stderr.write(masked(line) + "\n")
