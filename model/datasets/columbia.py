"""Columbia's uncompressed splices."""

from __future__ import annotations

from model.datasets.layouts import PHOTOHOLMES, Dataset, PublishedLayout, always, common, three_folders

COLUMBIA = Dataset(
    "columbia",
    "Columbia Uncompressed Image Splicing Detection (Hsu, Chang 2006)",
    ("Columbia", "Columbia Uncompressed Image Splicing Detection", "ColumbiaUncompressed"),
    ((180, 183),),
    "a form on https://www.ee.columbia.edu/ln/dvmm/downloads/authsplcuncmp/",
    "those of the form (not confirmed)",
    (
        PublishedLayout(
            "published",
            "4cam_splc/, 4cam_splc/edgemask/<image>_edgemask.jpg, 4cam_auth/",
            PHOTOHOLMES,
            three_folders(
                ("4cam_splc", "4cam_splc/4cam_splc"),
                ("4cam_splc/edgemask", "edgemask", "4cam_splc/4cam_splc/edgemask"),
                ("4cam_auth", "4cam_auth/4cam_auth"),
                style="two-coloured",
                manipulation=always("splice"),
            ),
        ),
        common(always("splice")),
    ),
    ("ships edge masks in two colours, as JPEG: filled here, green = forged",),
)
