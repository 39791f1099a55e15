"""Figures of whole-picture detection against scikit-learn's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from model.evaluation.baselines import size_probe
from model.evaluation.detection import detect_figures, status_of
from model.evaluation.metrics import compare
from model.evaluation.rows import ImageRow


def rows(count: int = 240, shift: float = 0.2) -> list[ImageRow]:
    rng = np.random.default_rng(3)
    made = []
    for number in range(count):
        generated, generator = number % 2 == 1, ("adm", "sd", "flux")[number % 3]
        score = round(float(np.clip(rng.normal(0.4 + shift * generated, 0.2), 0, 1)), 2)  # with ties
        made.append(
            ImageRow(
                f"{number:04}",
                generated,
                "generated" if generated else "",
                part=generator,
                score=score,
                probability=score,
                decided=score > 0.6,
                verdict="generated" if score > 0.6 else "inconclusive" if score > 0.5 else "no_evidence",
            )
        )
    return made


def test_figures_are_those_of_scikit_learn() -> None:
    made = rows()
    truth, scores = [row.forged for row in made], np.array([row.score for row in made], np.float64)
    found = detect_figures(made, resamples=50).overall
    assert found["image_auc"].value == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert found["average_precision"].value == pytest.approx(metrics.average_precision_score(truth, scores))
    assert found["accuracy_at_half"].value == pytest.approx(metrics.accuracy_score(truth, scores > 0.5))
    assert found["accuracy"].value == pytest.approx(metrics.accuracy_score(truth, scores > 0.6))
    assert found["balanced_accuracy"].value == pytest.approx(metrics.balanced_accuracy_score(truth, scores > 0.6))
    assert found["brier"].value == pytest.approx(metrics.brier_score_loss(truth, scores))
    fpr, tpr, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    assert found["tpr_at_fpr_5"].value == pytest.approx(tpr[fpr <= 0.05].max())
    share = found["real_called_generated"]
    assert share.n == 120 and share.value == sum(row.decided is True for row in made if not row.forged) / 120
    assert share.low is not None and share.low < share.value < (share.high or 0)
    for figure in found.values():
        assert figure.low is not None and figure.high is not None and figure.low <= (figure.value or 0) <= figure.high


def test_by_generator_with_means_that_weigh_generators_alike() -> None:
    made = [row for row in rows() if not (row.part == "sd" and row.forged and int(row.key) > 40)]
    found = detect_figures(made, ["ADM", "StyleGAN"], resamples=50)
    assert [(one.name, one.status) for one in found.generators] == [
        ("adm", "seen"), ("flux", "unseen"), ("sd", "unseen")
    ]  # fmt: skip
    assert [(one.real, one.generated) for one in found.generators] == [(40, 40), (40, 40), (40, 7)]
    unseen = [one.figures["image_auc"].value for one in found.generators if one.status == "unseen"]
    assert found.means["unseen"]["image_auc"].value == pytest.approx(np.mean(np.array(unseen, np.float64)))
    assert found.means["seen"]["accuracy"].value == pytest.approx(found.generators[0].figures["accuracy"].value)
    assert set(detect_figures(made, None, resamples=9).means) == {"all"}


def test_real_pictures_of_no_generator_serve_all() -> None:
    made = [replace(row, part="" if not row.forged else row.part) for row in rows()]
    assert [one.real for one in detect_figures(made, resamples=9).generators] == [120, 120, 120]


def test_laundered_pictures_change_no_other_figure() -> None:
    made = rows()
    laundered = [ImageRow(f"l{n}", True, "laundered", score=0.9, decided=True, verdict="generated") for n in range(20)]
    plain, both = detect_figures(made, resamples=20), detect_figures([*made, *laundered], resamples=20)
    assert (both.overall, both.generators, both.means) == (plain.overall, plain.generators, plain.means)
    assert plain.laundered == {}
    assert both.laundered["laundered_called_generated"].value == 1
    assert both.laundered["image_auc"].value is not None and both.laundered["image_auc"].value > 0.9


def test_what_is_not_known_of_a_method_is_not_called_unseen() -> None:
    assert status_of("adm", None) == "unknown"
    assert status_of("Stable-Diffusion 1.4", ["stable diffusion 14"]) == "seen"
    assert status_of("adm", []) == "unseen"


def test_a_generator_without_a_name_is_not_called_unseen() -> None:
    made = [replace(row, part="") if row.part == "sd" else row for row in rows()]
    found = detect_figures(made, ["ADM"], resamples=9)
    assert [(one.name, one.status) for one in found.generators] == [
        ("adm", "seen"), ("flux", "unseen"), ("unnamed", "unknown")
    ]  # fmt: skip


def test_a_generator_of_which_no_picture_was_judged_does_not_take_the_mean_with_it() -> None:
    made = [replace(row, score=None, decided=None) if row.forged and row.part == "sd" else row for row in rows()]
    found = detect_figures(made, resamples=9)
    known = [one.figures["image_auc"].value for one in found.generators]
    assert known[2] is None and found.means["all"]["image_auc"].value == pytest.approx((known[0] + known[1]) / 2)  # type: ignore[operator]


def test_one_picture_of_a_class_gives_no_interval() -> None:
    real = [row for row in rows() if not row.forged]
    alone = next(row for row in rows() if row.forged and row.part == "sd")
    figure = detect_figures([*real, alone], resamples=9).overall["image_auc"]
    assert figure.value is not None and figure.low is None and figure.high is None


def test_one_class_alone_has_no_figures_that_compare_two() -> None:
    found = detect_figures([row for row in rows() if row.forged], resamples=9)
    assert found.overall["image_auc"].value is None and found.overall["accuracy"].value is None
    assert found.overall["generated_called_generated"].n == 120


def test_the_size_of_files_is_seen_as_a_shortcut_in_either_direction() -> None:
    made = rows()
    rng = np.random.default_rng(0)
    for sign in (1, -1):
        sizes = [float(np.exp(sign * (1.5 if row.forged else -1.5) + rng.normal())) for row in made]
        found = detect_figures(size_probe(made, sizes), resamples=20).overall["image_auc"]
        assert found.low is not None and found.low > 0.9
    noise = detect_figures(size_probe(made, [float(v) for v in rng.uniform(1, 2, len(made))]), resamples=50)
    assert (noise.overall["image_auc"].low or 1) < 0.6
    assert all(row.score == before.score for row, before in zip(size_probe(made[:9], [1.0] * 9), made[:9], strict=True))


def test_two_results_are_compared() -> None:
    better = rows(shift=0.4)
    for metric in ("accuracy_at_half", "average_precision", "image_auc", "balanced_accuracy"):
        comparison, _ = compare(better, rows(shift=0.1), metric, resamples=200)
        assert comparison.differs and comparison.difference.value is not None and comparison.difference.value > 0
