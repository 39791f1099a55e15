"""The figures of the CLUE paper (arXiv 2508.07413), as data: published by others, not measured here.

Pixel F1 and IoU, per image, at the fixed threshold 0.5, averaged over the forged images.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "CLUE paper, arXiv 2508.07413"


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """One cell of a table of the paper; `iou` is None where the paper gives F1 alone.

    Attributes:
        set: name of the benchmark, as `--bench` takes it.
        table: where it stands.
        note: what is to be known when it is compared.
    """

    method: str
    set: str
    f1: float
    iou: float | None
    table: str
    note: str = ""


_COLUMNS = ("casia1", "columbia", "nist16", "coverage", "acdsee", "cocoglide", "misd", "ipm15k", "autosplice")

_LOCALIZATION = {
    "MVSS-Net": ".432/.379 .677/.588 .305/.248 .397/.335 .267/.210 .333/.257 .640/.511 .191/.148 .291/.213",
    "IF-OSN": ".509/.465 .706/.607 .268/.199 .261/.191 .323/.247 .264/.207 .711/.586 .380/.307 .508/.394",
    "TruFor": ".696/.633 .798/.740 .362/.291 .480/.411 .485/.406 .360/.292 .659/.533 .545/.465 .654/.543",
    "CoDE": ".723/.637 .881/.844 .420/.339 .445/.358 .465/.372 .489/.387 .760/.642 .540/.450 .576/.443",
    "SAFIRE": ".299/.238 .900/.884 .168/.138 .253/.209 .359/.284 .479/.404 .620/.489 .285/.230 .274/.196",
    "CLUE": ".847/.795 .938/.917 .591/.519 .673/.610 .617/.536 .706/.613 .766/.647 .745/.690 .683/.522",
}
"""Table 1."""

_NETWORKS = ("facebook", "whatsapp", "weibo", "wechat")
_SOCIAL_COLUMNS = ("casia1", "columbia", "dso1", "nist16")
_SOCIAL = {
    "MVSS-Net": ".367/.337/.389/.245 .692/.687/.677/.684 .263/.170/.242/.205 .270/.169/.248/.218",
    "IF-OSN": ".464/.477/.465/.405 .712/.726/.723/.726 .403/.359/.374/.367 .331/.314/.295/.288",
    "TruFor": ".662/.669/.630/.592 .764/.763/.800/.773 .665/.400/.478/.411 .343/.400/.309/.348",
    "CoDE": ".699/.697/.702/.629 .882/.883/.884/.878 .391/.377/.381/.368 .412/.420/.408/.413",
    "SAFIRE": ".266/.261/.296/.215 .762/.795/.862/.860 .446/.303/.368/.310 .426/.383/.383/.360",
    "CLUE": ".838/.832/.828/.785 .932/.928/.946/.938 .763/.713/.772/.730 .596/.584/.590/.566",
}
"""Table 2: F1 after Facebook / WhatsApp / Weibo / WeChat."""

_QUALITIES = (100, 90, 75)
_UNSTATED = "the paper does not say which of the three JPEG qualities"


def _localization() -> list[PublishedFigure]:
    figures = []
    for method, line in _LOCALIZATION.items():
        for column, cell in zip(_COLUMNS, line.split(), strict=True):
            f1, iou = map(float, cell.split("/"))
            if column == "autosplice":
                figures += [
                    PublishedFigure(method, f"autosplice-{quality}", f1, iou, "table 1", _UNSTATED)
                    for quality in _QUALITIES
                ]
            else:
                figures.append(PublishedFigure(method, column, f1, iou, "table 1"))
    return figures


def _social() -> list[PublishedFigure]:
    return [
        PublishedFigure(method, f"{column}-{network}", float(value), None, "table 2")
        for method, line in _SOCIAL.items()
        for column, cell in zip(_SOCIAL_COLUMNS, line.split(), strict=True)
        for network, value in zip(_NETWORKS, cell.split("/"), strict=True)
    ]


PUBLISHED: tuple[PublishedFigure, ...] = (*_localization(), *_social())


def published_for(names: set[str]) -> list[PublishedFigure]:
    """What the paper says of these sets, in the order of its tables."""
    return [figure for figure in PUBLISHED if figure.set in names]


BI_LORA = "Bi-LORA paper, arXiv 2404.01959"


@dataclass(frozen=True, slots=True)
class PublishedMean:
    """A mean that a paper on whole-picture detection states.

    Attributes:
        metric: its name in `results.json`.
        over: what it is the mean of.
    """

    method: str
    metric: str
    value: float
    over: str
    source: str
    note: str


PUBLISHED_DETECTION: tuple[PublishedMean, ...] = (
    PublishedMean(
        "Bi-LORA",
        "accuracy_at_half",
        0.9341,
        "mean over generators that it was not trained on",
        BI_LORA,
        "over the authors' own pictures; the answer of its captions, “real” or “fake”",
    ),
)
