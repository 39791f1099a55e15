"""DSO-1: splices of people."""

from __future__ import annotations

from model.datasets.layouts import PHOTOHOLMES, Dataset, PublishedLayout, always, common, one_folder


def _class(stem: str) -> bool | None:
    return {"splicing": True, "normal": False}.get(stem.split("-")[0])


DSO1 = Dataset(
    "dso1",
    "DSO-1 (Carvalho et al. 2013)",
    ("DSO-1", "tifs-database", "DSO"),
    ((100, 100),),
    "https://recodbr.wordpress.com/code-n-data/#dso1_dsi1",
    "not confirmed",
    (
        PublishedLayout(
            "published",
            "DSO-1/{splicing,normal}-<n>.png, DSO-1-Fake-Images-Masks/splicing-<n>.png, black = forged",
            PHOTOHOLMES,
            one_folder(
                ("DSO-1",),
                ("DSO-1-Fake-Images-Masks",),
                _class,
                stems=lambda stem: [stem],
                style="black",
                kind="splice",
            ),
        ),
        common(always("splice")),
    ),
    ("masks as distributed are inverted: black = forged",),
)
