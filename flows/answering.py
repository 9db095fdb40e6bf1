"""How every command answers: what it tells, on which stream, and with which exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Final, ParamSpec

import click

from exports.errors import FhirloomError, value_free
from flows import summary
from flows.exit_codes import INTERNAL, INTERRUPTED, MEANINGS, OF_ERROR
from flows.quiet import quieten
from flows.settings import Settings, save_settings
from flows.work import Work, at_work, open_work

P = ParamSpec("P")

EPILOG: Final = "\b\nExit codes:\n" + "\n".join(
    f"  {code}  {meaning}" for code, meaning in MEANINGS.items()
)


def answers(command: Callable[P, None]) -> Callable[P, None]:
    """Turn an error into a line on standard error (JSON with `--json`) and an exit code."""

    @wraps(command)
    def answering(*args: P.args, **kwargs: P.kwargs) -> None:
        failure: FhirloomError
        try:
            return command(*args, **kwargs)
        except FhirloomError as error:
            failure = error
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, click.Abort):
            click.echo("fhirloom: stopped; the same command goes on from here", err=True)
            sys.exit(INTERRUPTED)
        except Exception as error:
            work = kwargs.get("work")
            failure = (
                value_free(error, stage="fhirloom", phi=work / "phi")
                if isinstance(work, Path)
                else _unexplained(error)
            )
        if kwargs.get("as_json"):
            click.echo(json.dumps({"error": failure.facts}), err=True)
        else:
            click.echo(f"fhirloom: {failure}", err=True)
        sys.exit(OF_ERROR.get(failure.code, INTERNAL))

    return answering


def _unexplained(error: Exception) -> FhirloomError:
    """A defect in a command without a work folder: there is no place that may hold its values."""
    return FhirloomError(
        "internal",
        type(error).__name__,
        where="a command without a work folder",
        fix="Check the files that it was given.",
    )


def tell(facts: summary.Facts, as_json: bool) -> None:
    """Print the facts, and end with the exit code that they mean."""
    click.echo(summary.as_json(facts) if as_json else summary.as_text(facts))
    sys.exit(summary.exit_code(facts))


def alone(work: Path, name: str) -> summary.Facts:
    """One stage on the work folder, without Prefect."""
    folder = open_work(work)
    quieten(folder.research)
    from flows import stages
    from flows.display import display

    with at_work(folder):
        return stages.run(getattr(stages, name), folder, display())


@contextmanager
def prepared(work: Path, settings: Settings) -> Iterator[Work]:
    """The work folder, this command's alone while the block lasts, with the settings kept in it."""
    folder = open_work(work)
    quieten(folder.research)
    from flows import study

    study.check(settings)
    with at_work(folder):
        save_settings(settings, folder.phi)
        yield folder
