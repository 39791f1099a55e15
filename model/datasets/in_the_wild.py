"""In-the-Wild: splices found on the web."""

from __future__ import annotations

from model.datasets.layouts import Dataset, PublishedLayout, always, common, three_folders

IN_THE_WILD = Dataset(
    "in-the-wild",
    "In-the-Wild (Huh et al. 2018)",
    ("In-the-wild", "label_in_wild", "wild"),
    ((201, 0),),
    "https://minyoungg.github.io/selfconsistency/",
    "not stated",
    (
        PublishedLayout(
            "published",
            "images/<n>.jpg, masks/<n>.png",
            "as public code reads it",
            three_folders(("images",), ("masks",), ("no authentic images",), manipulation=always("splice")),
        ),
        common(always("splice")),
    ),
)
