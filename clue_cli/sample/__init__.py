"""Sample evidence with known answers, made from photographs that scikit-image ships.

`write_sample(DIR)` writes a small case into `DIR`, and what was done to each image into its sibling `DIR-truth`.
Nothing is downloaded, and the same library versions write the same bytes.
"""

from clue_cli.sample.case import Exhibit, Sample, build_sample, truth_folder, write_sample
from clue_cli.sample.pictures import SOURCES, Picture

__all__ = ["SOURCES", "Exhibit", "Picture", "Sample", "build_sample", "truth_folder", "write_sample"]
