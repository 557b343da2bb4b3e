"""``smrfed-site``: everything that a hospital does, from the first folder to the ledger."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
from datetime import UTC, datetime

import click
import typer

from client.commands.adapting import adapt
from client.commands.annotating import annotate
from client.commands.display import err
from client.commands.evaluating import evaluate
from client.commands.explaining import explain
from client.commands.first_steps import init
from client.commands.ledger import app as ledger_app
from client.commands.plans import accept
from client.commands.policy import app as policy_app
from client.commands.preparing import prepare, review
from client.commands.receipts import app as receipts_app
from client.commands.serving import run, status
from client.commands.supervising import up
from client.enrolment.commands import allow_courier, join, renew, rotate_keys
from client.observability.command import metrics
from client.preflight.command import check
from shared_model.errors import SmrfedError
from shared_model.observability.log_setup import LOG_FORMAT_VARIABLE, LogFormatOption, log_to_stream

_UNEXPECTED = 70

app = typer.Typer(
    help="One hospital of a smrfed federation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (init, check, accept, prepare, review, run, up, status):
    app.command()(command)
for told_here in (evaluate, explain, annotate, adapt, metrics):
    app.command()(told_here)
for membership in (join, renew, allow_courier, rotate_keys):
    app.command()(membership)
app.add_typer(policy_app, name="policy")
app.add_typer(receipts_app, name="receipts")
app.add_typer(ledger_app, name="ledger")


@app.callback()
def _root(log_format: LogFormatOption = "text") -> None:
    """One hospital of a smrfed federation."""
    if log_format == "json":
        # What a supervisor starts writes the same.
        os.environ[LOG_FORMAT_VARIABLE] = "json"
        log_to_stream("smrfed-site", "json", withhold=True)
        # What people read may name a scan; a log shipper gets the numbers alone.
        err.quiet = True


def main() -> None:
    """Run the command line.

    An error that has a number is shown with its situation and remedy, exit status 1; a wrong option
    with the usage, exit status 2; anything else leaves its traceback in a file that only its owner
    can read, exit status 70.
    """
    try:
        # typer.Exit(1) of a command becomes the value, because this is not standalone mode.
        sys.exit(app(standalone_mode=False))
    except SmrfedError as error:
        if err.quiet:
            logging.getLogger("smrfed.site").error("ended: %s", error)
        err.print(error.render(), markup=False, highlight=False)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        err.print("nothing was changed")
        sys.exit(1)
    except Exception:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        descriptor, path = tempfile.mkstemp(prefix=f"smrfed-site-{stamp}-", suffix=".log")
        with os.fdopen(descriptor, "w") as file:
            traceback.print_exc(file=file)
        err.print(f"unexpected error; the whole story is in {path}", markup=False, highlight=False)
        sys.exit(_UNEXPECTED)


if __name__ == "__main__":
    main()
