"""`clue explain`: a language model of the user's explains flagged records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clue_cli.commands.options import Device, NumberFormat, Quiet, check_current_folder, graceful_stop, require_extra
from clue_cli.commands.results import Locators, Results, Where, selection_of, warn_of_missing
from clue_cli.errors import ExitCode, UsageError
from clue_cli.networks import DType, NetworkOptions
from clue_cli.progress import ShownReporter
from clue_cli.terminal import counted, say

if TYPE_CHECKING:
    from clue_cli.explaining.run import Explained, Writer

_FLAGGED = ("forged", "inconclusive")
_DEFAULT = NetworkOptions()


def explain(
    results: Results,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="FOLDER",
            help="Folder of a vision-language model, LLaVA or Qwen2-VL, in the layout of transformers, or the name of "
            "a registered one.",
        ),
    ],
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME…]",
            help="Only records with these verdicts: forged, inconclusive.",
            show_default="both",
            rich_help_panel="Which records",
        ),
    ] = None,
    locators: Locators = None,
    where: Where = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Explain at most this many records, the strongest first: forged ones, then by score.",
            show_default="all",
            rich_help_panel="Which records",
        ),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=16, max=4096, help="Length of a text in tokens. A text that is cut off is discarded.")
    ] = 320,
    device: Device = _DEFAULT.device,
    dtype: NumberFormat = _DEFAULT.dtype,
    quiet: Quiet = False,
) -> None:
    """Have a language model of your own explain flagged records, and check what it writes.

    The model sees the picture with the marked regions, crops of the strongest
    ones, the findings and the error rates. Its text passes only if each
    sentence is of a known form, with the record's numbers, regions and verdict.
    Texts are stored apart from the records, in RESULTS/explanations.jsonl; clue
    report shows those that passed the check.

    What the text says the picture shows is not checked.
    """
    check_current_folder()
    wanted = selection_of(only or ",".join(_FLAGGED), None, None).only
    if unflagged := [word for word in wanted if word not in _FLAGGED]:
        message = f"Records with --only {unflagged[0]} are not explained."
        raise UsageError(message, "Choose forged, inconclusive or both.")
    selection = selection_of(None, locators, where)
    require_extra("explain", "transformers", extra="models")
    from clue_cli.explaining.run import FLAGGED, Generation
    from clue_cli.explaining.run import explain as run
    from model.device import ran_out_of_memory, resolve
    from model.explainer import Explainer, describe_explainer
    from model.float8 import weights_format

    if dtype in (DType.FLOAT8, DType.INT8):
        raise UsageError(f"--dtype {dtype.value} is for clue's own network.", "Choose float32 or bfloat16.")
    place, number_format = resolve(device, dtype.value)
    number_format = weights_format(number_format)
    generation = Generation(max_tokens, place, str(number_format).removeprefix("torch."))
    with ShownReporter(quiet=quiet) as reporter, graceful_stop() as stop:
        base = describe_explainer(model)

        def load() -> Writer:
            reporter.note(f"Loading {base.name}, SHA-256 {base.digest}, on {place}.")
            try:
                return Explainer(base, place, number_format)
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
                raise UsageError(
                    f"{place} has not the memory for {base.name} in {generation.dtype}.",
                    "Try --dtype bfloat16, another --device, or a smaller model.",
                ) from error

        done = run(
            results,
            base,
            load,
            generation,
            selection,
            verdicts=[verdict for verdict in FLAGGED if verdict.value in wanted],
            limit=limit,
            reporter=reporter,
            stop=stop,
        )
        reporter.finish()
        if not quiet:
            _say(done, results)
    warn_of_missing(selection)
    raise typer.Exit(_exit_code(done))


def _say(done: Explained, results: Path) -> None:
    for problem in done.problems:
        say(f"Warning: {problem}")
    new = done.accepted + done.discarded
    if not (new or done.failed or done.reused):
        say("No record is selected: none with the verdict forged or inconclusive.")
        return
    say(
        f"{counted(new, 'text')} written: {done.accepted:,} accepted, {done.discarded:,} discarded. "
        f"{done.failed:,} failed, {done.reused:,} from earlier runs."
    )
    if done.accepted:
        say(f"clue report {results} shows the accepted ones on the page.")
    if done.unfinished:
        say("Warning: the scan did not finish; these are the records written so far.")


def _exit_code(done: Explained) -> ExitCode:
    if done.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.SOME_FAILED if done.failed else ExitCode.OK
