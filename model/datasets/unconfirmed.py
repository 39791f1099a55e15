"""Sets of which no published layout is known: the common one is read."""

from __future__ import annotations

from model.datasets.layouts import NOT_CONFIRMED, Dataset, common

ACDSEE = Dataset(
    "acdsee",
    "ACDSee",
    ("ACDSee",),
    ((337, 0), (337, 364)),
    "not confirmed",
    "not confirmed",
    (common(source=NOT_CONFIRMED),),
)
IPM15K = Dataset(
    "ipm15k",
    "IPM15K",
    ("IPM15K",),
    ((15000, 0),),
    "not confirmed",
    "not confirmed",
    (common(source=NOT_CONFIRMED),),
)
