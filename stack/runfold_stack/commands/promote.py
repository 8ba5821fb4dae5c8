"""`runfold promote`: a promotion from the command line."""

import json
from typing import Annotated

import typer


def promote(
    moves: Annotated[
        list[str],
        typer.Argument(
            metavar="MOVE...", help="churn@prod=8, churn@prod=none or churn/8=Production; several are made at once."
        ),
    ],
    only_if: Annotated[
        list[str] | None,
        typer.Option(
            "--if",
            help="Condition; may be repeated: churn@prod=7, churn@prod=none, churn/8, churn/8=Staging, or a "
            "model's name.",
        ),
    ] = None,
    archive_existing: Annotated[
        bool, typer.Option("--archive-existing", help="Archive the other versions in the stages that are given.")
    ] = False,
    comment: Annotated[str, typer.Option("--comment", help="Why; it is kept in the log.")] = "",
    server: Annotated[
        str | None, typer.Option("--server", help="Address of the server; unset: RUNFOLD_TRACKING_URI.")
    ] = None,
) -> None:
    """Move aliases and stages of registered models by one event, if all conditions hold: all or nothing.

    Prints the event's position and the models as JSON. Exit code 1: nothing was changed, and the message says which
    condition failed and what holds; or the server gave no answer, and then it says so.
    """
    # Imported on first use: the command starts faster.
    import runfold

    answer = runfold.promote(
        *moves, only_if=only_if or (), archive_existing=archive_existing, comment=comment, tracking_uri=server
    )
    print(json.dumps(answer, indent=2))
