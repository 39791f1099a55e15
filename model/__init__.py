"""CLUE: what is learned and measured. Imports nothing from `clue_cli`."""

import os

# By default OpenMP's threads wait for each other by spinning. On a machine that does anything else besides, the
# network then takes up to 18 times as long (measured: 4.9 s a picture of 384×256 against 0.27 s, two cores, one other
# busy process); on an idle machine nothing is lost. Read when torch loads its OpenMP, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
