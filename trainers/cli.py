"""Flags from a dataclass, and one clear line for what a person got wrong."""

import dataclasses
import errno
import logging as python_logging
import os
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging
from rich.console import Console

from mtl_keras.errors import UserError, first_line
from trainers.config import flag_text
from zoo.recipes import RECIPES

# The flags that are defined here are those of the command that asks for them, and stand in its --help.
flags.disclaim_key_flags()

EXIT_SOME_FAILED = 1
EXIT_USER_ERROR = 2
# A loss that is not finite has stopped the run: sysexits' EX_DATAERR.
EXIT_NOT_FINITE = 65
# A signal has stopped the run, and it can go on: sysexits' EX_TEMPFAIL, "try again later".
EXIT_STOPPED = 75
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def launch(main: Callable[[list[str]], int | None], *, takes_arguments: bool = False) -> None:
    """Runs a command: parses flags, calls `main` with what is left, and exits with its status.

    Args:
        main: the command; gets its positional arguments.
        takes_arguments: whether there may be any.
    """

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            rest = flags.FLAGS(list(argv))[1:]
        except flags.Error as error:
            fail(f"{first_line(error)}; --help lists the flags")
        except SystemExit:
            sys.exit(0)  # --help was asked for and given, which absl takes for a failure
        if rest and not takes_arguments:
            fail(f"'{rest[0]}' is no flag; this command takes flags alone, --help lists them")
        # Libraries report through absl too; a person wants their warnings only.
        logging.set_verbosity(logging.WARNING)
        _show_logs()
        return rest

    def guarded(arguments: list[str]) -> int | None:
        try:
            return main(arguments)
        except UserError as error:
            fail(str(error))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                fail(f"{error.filename or 'a file'}: {error.strerror}; make room, or give another place")
            if error.filename is None:
                raise
            fail(f"{error.filename}: {error.strerror}; give a place that can be read and written")
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED

    try:
        app.run(guarded, flags_parser=parse)
    except BrokenPipeError:
        # Who read the output is gone, `| head` say; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_BROKEN_PIPE)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # as `print` does; `launch` knows what to do


def console() -> Console:
    """The terminal, for lines that may be coloured and are never broken."""
    return _Console(highlight=False, soft_wrap=True, markup=False)


def _show_logs() -> None:
    """Prints what the project's own packages log as plain lines, on stderr: stdout is the command's."""
    for package in ("mtl_keras", "zoo", "trainers"):
        logger = python_logging.getLogger(package)
        logger.setLevel(python_logging.INFO)
        logger.addHandler(python_logging.StreamHandler(sys.stderr))
        logger.propagate = False


def fail(message: str) -> typing.NoReturn:
    """Prints one line and exits with status 2."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(EXIT_USER_ERROR)


def failed(failures: Sequence[str], what: str, *, any_done: bool) -> int:
    """Lists what failed, "error: 2 not exported:" and a line for each; returns the command's exit status.

    Args:
        failures: a line for each.
        what: what was not done to them, such as "exported".
        any_done: whether others were; if none was, the status is that of a command that could do nothing.
    """
    print(f"error: {len(failures)} not {what}:", file=sys.stderr)
    for failure in failures:
        print(f"  {failure}", file=sys.stderr)
    return EXIT_SOME_FAILED if any_done else EXIT_USER_ERROR


def define_flags(config: type, names: Sequence[str] | None = None) -> None:
    """Defines a flag for every field of a dataclass, or for those named; `given_flags` tells which were given."""
    for field in dataclasses.fields(config):
        if names is None or field.name in names:
            _define(field.name, field.type, field.default, field.metadata["help"], field.metadata.get("choices"))


def recipes_help() -> str:
    """The recipes, each with the flags that it stands for and what comes of it."""
    lines = ["Recipes:"]
    for name, recipe in RECIPES.items():
        settings = " ".join(_as_flag(field, value) for field, value in recipe.settings.items())
        for text in (f"{name}, {recipe.about}: {settings}", f"  → {recipe.expect}"):
            lines += textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def _as_flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={flag_text(value)}"


def given_flags(config: type) -> dict[str, Any]:
    """The fields that were given on the command line, by name."""
    names = [field.name for field in dataclasses.fields(config) if field.name in flags.FLAGS]
    given = {name: flags.FLAGS[name].value for name in names if flags.FLAGS[name].present}
    # A flag cannot be None, so "none" says so where a field may be.
    optional = {field.name for field in dataclasses.fields(config) if isinstance(field.type, types.UnionType)}
    given = {name: None if name in optional and value == "none" else value for name, value in given.items()}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


class _ListParser(flags.ArgumentParser):
    """Values behind commas, as a list: `0,0,1`, `false,false,true`, `256,256`, `256x256`."""

    def __init__(self, item: flags.ArgumentParser):
        super().__init__()
        self.item = item
        self.syntactic_help = "values separated by commas"

    def parse(self, argument):
        if isinstance(argument, str):
            return [self.item.parse(part.strip("() ")) for part in argument.replace("x", ",").split(",")]
        return list(argument)


class _OrNone(flags.ArgumentParser):
    """A number, or "none"."""

    def __init__(self, number: flags.ArgumentParser):
        super().__init__()
        self.number = number
        self.syntactic_help = f"{number.syntactic_help}, or none"

    def parse(self, argument):
        return argument if argument == "none" else self.number.parse(argument)


def _define(name: str, kind: Any, default: Any, help: str, choices: Sequence[str] | None) -> None:
    is_optional = isinstance(kind, types.UnionType)
    if is_optional:
        kind = next(option for option in typing.get_args(kind) if option is not types.NoneType)
    if choices:
        help = f"{help} ({', '.join(choices)})"
    if typing.get_origin(kind) is tuple:
        parser = _PARSERS[typing.get_args(kind)[0]]()
        flags.DEFINE(_ListParser(parser), name, list(default), help, serializer=flags.ListSerializer(","))
        return
    if is_optional and kind is not str:
        flags.DEFINE(_OrNone(_PARSERS[kind]()), name, default, help)
        return
    _DEFINE[kind](name, default, help)


_DEFINE: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}
_PARSERS = {bool: flags.BooleanParser, int: flags.IntegerParser, float: flags.FloatParser}
