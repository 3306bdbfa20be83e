"""The program ``horen``: its commands, and how errors leave it."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from horen._version import __version__
from horen.cli.commands import ON_DEMAND, Commands
from horen.cli.terminal import Output, OutputError, fail, interrupted
from horen.errors import HorenError
from horen.store.places import without_passwords


class _Commands(TyperGroup):
    """Commands whose errors are told in one line, each of which is made when it is asked for."""

    def __init__(self, **told: Any) -> None:
        super().__init__(**told | {"commands": Commands(ON_DEMAND)})

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HorenError as error:
            fail(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            raise interrupted("Interrupted.") from None
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str):  # of wrong usage
                # What reads the options may be a library that names the kind of its own error first.
                told = message.removeprefix("Value error, ")
                error.message = without_passwords(told)  # type: ignore[attr-defined]
            raise


app = typer.Typer(
    cls=_Commands,
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"horen {__version__}")
        raise typer.Exit


@app.callback()
def _horen(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Correct what a language model knows, one fact after another.

    Edits are kept in a codebook, a folder DIR; the model's weights stay as they are.

    \b
    Start here:
      horen demo
      horen edit facts.jsonl --into facts --model smollm2-135m-instruct
      horen ask facts "What is the capital of Ostrenia?"
    """


def main() -> None:
    """Run the program: exit code 0, 1 for an error, 2 for wrong usage, 130 when interrupted."""
    if sys.stdout is None:
        fail("Standard output is closed, so no result could be given: lead it somewhere, if only to /dev/null.")
        sys.exit(1)
    if type(sys.stdout) is io.TextIOWrapper:  # not what a caller has put in its place
        buffered = not sys.stdout.line_buffering
        sys.stdout = Output(sys.stdout.buffer, sys.stdout.encoding, line_buffering=not buffered)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # Threads that spin while they wait make torch many times slower on a machine that has other work to do too. This
    # is read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    # What the library warns about is in what the commands print.
    logging.getLogger("horen").addHandler(logging.NullHandler())
    try:
        app()
    except OutputError as error:
        fail(f"The output cannot be written ({error.strerror}): lead it to another place. What was changed is changed.")
        sys.exit(1)
    except Exception as error:
        if os.environ.get("HOREN_TRACEBACK"):
            raise
        reason = " ".join(str(error).split()) or "no message"
        fail(f"unexpected {type(error).__name__}: {reason}. Set HOREN_TRACEBACK=1 to see where.")
        sys.exit(1)
