"""Sets of images with masks: one definition for each public set, to train on and to measure on.

    from model.datasets.registry import DATASETS, locate

    found = locate(DATASETS["coverage"], Path("/data/forensics"))  # None: it is not there
    for sample in found.listing.samples: ...

A new set is one module here that defines a `Dataset`, and a line in `registry`.

| module | what |
|---|---|
| `sample` | what a set consists of: samples, and what is wrong with it |
| `layouts` | what is known of a set; from a folder to samples: the layouts that several sets share |
| `registry` | the sets by name, and where they lie on a disk |
| `own` | sets of the user's own: folders, lists, and the output of `clue forge` |
"""
