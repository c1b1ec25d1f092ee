"""The command line: one file for each command, one table of commands, one table of exit codes."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any

import typer

from gen_prior.cli import (
    accentuate,
    atlas,
    benchmark,
    calibrate,
    compare,
    dataset,
    doctor,
    dream,
    evolve,
    export,
    invert,
    labels,
    layers,
    models,
    morph,
    natural,
    pull,
    replay,
    synth,
    train_prior,
    train_stages,
)
from gen_prior.cli.shared.help import PlainCommand, PlainGroup
from gen_prior.cli.shared.output import print_error, printable
from gen_prior.errors import GenPriorError, OptionError, TargetError, UnknownNameError

COMMANDS: dict[str, Callable[..., None]] = {
    "synth": synth.run,
    "compare": compare.run,
    "dream": dream.run,
    "accentuate": accentuate.run,
    "morph": morph.run,
    "invert": invert.run,
    "evolve": evolve.run,
    "dataset": dataset.run,
    "atlas": atlas.run,
    "models": models.run,
    "pull": pull.run,
    "calibrate": calibrate.run,
    "export": export.run,
    "doctor": doctor.run,
    "layers": layers.run,
    "labels": labels.run,
    "natural": natural.run,
    "benchmark": benchmark.run,
    "replay": replay.run,
}
"""Name -> function with typer annotations. Files of commands import torch inside functions only, so help is fast."""

FAILED, USAGE, INTERRUPTED = 1, 2, 130
EXIT_CODES: dict[type[BaseException], int] = {
    UnknownNameError: USAGE,
    TargetError: USAGE,
    OptionError: USAGE,
    GenPriorError: FAILED,
    KeyboardInterrupt: INTERRUPTED,
    BrokenPipeError: FAILED,
}
"""Error -> exit code; the first match counts. Any other exception is a bug and keeps its traceback."""


class Commands(PlainGroup):
    """Runs a command; an error that the user can fix becomes one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except tuple(EXIT_CODES) as error:
            code = next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
            if isinstance(error, BrokenPipeError):  # nobody reads our output any more
                sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
            else:
                print_error(str(error) or "stopped")
            raise typer.Exit(code) from error
        except Exception as error:
            if hasattr(error, "format_message"):  # a usage error of typer, which prints it as it is
                error.message = printable(str(getattr(error, "message", "")))  # type: ignore[attr-defined]
            raise


class PlainFormatter(logging.Formatter):
    """Log messages as `printable` gives them: they name files."""

    def format(self, record: logging.LogRecord) -> str:
        """One message."""
        return printable(super().format(record))


class Command(PlainCommand):
    """Refuses an argument such as `-goldfish`, which would be read as `-g oldfish`, and options where they are none.

    An option whose metavar ends with dots takes all words up to the next option: `--layers layer3 layer4`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        several = [param for param in self.params if str(param.metavar).endswith("...") and param.opts[0][0] == "-"]
        args = _one_by_one(args, {name for param in several for name in param.opts})
        options = [param for param in self.params if param.param_type_name == "option"]
        with_value = {name for option in options if not option.is_flag for name in option.opts}  # type: ignore[attr-defined]
        ours = args[: args.index("--")] if "--" in args else args
        known = {name for option in options for name in option.opts}
        if late := [word for word in args[len(ours) + 1 :] if word.startswith("--") or word in known]:
            raise OptionError(f"{late[0]} stands after --, where no word is an option", fix="put all options before --")
        for before, given in zip(["", *ours], ours, strict=False):
            if re.match(r"-[^-].", given) and before not in with_value:
                raise OptionError(
                    f"{given} begins with one dash, as short options do",
                    fix=f'write a target that is to respond least after all options, as in "gen-prior {self.name} -- '
                    f'{given}", and the value of a short option after a blank',
                )
        rest: list[str] = super().parse_args(ctx, args)
        source = ctx.get_parameter_source("seeds")
        if ctx.params.get("seed") and source is not None and source.name == "COMMANDLINE":
            raise OptionError("--seed names the seeds and --seeds counts them, got both", fix="leave one of them out")
        return rest


def _one_by_one(args: list[str], several: set[str]) -> list[str]:
    """Repeat an option of `several` before each word that follows it: `--layers a b` -> `--layers a --layers b`."""
    found: list[str] = []
    option = ""
    for number, word in enumerate(args):
        if option and args[number - 1] != option and not word.startswith("-"):
            found.append(option)
        elif word.startswith("-") and args[number - 1 : number] != [option]:
            option = word if word in several else ""
        found.append(word)
    return found


app = typer.Typer(
    name="gen-prior",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="What does this neuron want to see? Preferred inputs of neurons, synthesised through generator priors.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"gen-prior {metadata.version('gen-prior')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for _name, _function in COMMANDS.items():
    app.command(_name, cls=Command)(_function)
app.add_typer(train_prior.app, name="train-prior")
for _name, _function in train_stages.OLD_COMMANDS.items():
    app.command(_name, cls=PlainCommand, hidden=True)(_function)


def main() -> None:
    """Entry point of the `gen-prior` command."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PlainFormatter())
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
