"""The contact sheets of a measurement; the few maps that they need are made again."""

from __future__ import annotations

from collections.abc import Iterator

from clue_cli.eval import contact
from clue_cli.eval.assemble import rows_of
from clue_cli.eval.measurements import MeasurementLog
from clue_cli.eval.methods import Method
from clue_cli.eval.page import Sheet
from clue_cli.eval.pictures import Pictures, Pixels
from clue_cli.eval.plan import Plan
from clue_cli.eval.plots import slug
from clue_cli.eval.runner import Run
from clue_cli.eval.sets import ChosenSet
from model.data.attacks import AttackError
from model.datasets.sample import Sample
from model.evaluation import UnreadablePicture
from model.evaluation.maps import Map
from model.evaluation.truth import Mask


def contact_sheets(plan: Plan, log: MeasurementLog, run: Run) -> dict[str, Sheet]:
    """A contact sheet for each set and subject under the first attack, by the name of its file."""
    sheets = {}
    attack, seed = plan.attacks[0], plan.options.seed
    with Pictures(1, plan.options.max_megapixels) as pictures:
        for number, chosen in enumerate(plan.sets, 1):
            for method in plan.methods[chosen.name]:
                if not method.subject:
                    continue
                found = rows_of(log, chosen, run.images[chosen.name], method, attack, seed)
                picks = contact.pick(one.row for one in found)
                if not picks:
                    continue
                jpeg = contact.sheet(_tiles(plan, pictures, chosen, method, picks), len(picks))
                name = f"{number:02d}-{slug(chosen.name)}-{slug(method.name)}.jpg"
                sheets[name] = Sheet(chosen.name, method.name, jpeg)
    return sheets


def _tiles(
    plan: Plan, pictures: Pictures, chosen: ChosenSet, method: Method, picks: list[contact.Pick]
) -> Iterator[tuple[contact.Pick, Mask | None, Pixels, Map]]:
    entries = {entry.key: entry for entry in chosen.samples}
    for one in picks:
        entry = entries[one.key]
        try:
            attacked = plan.attacks[0].apply(pictures.pixels(entry), plan.options.seed)
            heatmap = _map(plan, pictures, chosen, method, entry, attacked)
            if heatmap is not None:
                yield one, pictures.truth(entry), attacked, heatmap
        except (UnreadablePicture, AttackError):
            continue  # its figures are from before; the file is not what it was


def _map(
    plan: Plan, pictures: Pictures, chosen: ChosenSet, method: Method, entry: Sample, pixels: Pixels
) -> Map | None:
    if method.function is not None:
        return method.function(pixels)
    if method.kind == "predictions":
        path, _ = plan.folders[chosen.name].find(entry)
        return None if path is None else pictures.map(path)
    assert plan.network is not None
    (prediction,) = plan.network.predictor.predict([(entry.key, pixels)])
    return getattr(prediction, "heatmap", None)
