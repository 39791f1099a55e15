"""CLUE: what is learned and measured. Imports nothing from `clue_cli`."""

import os

# By default OpenMP's threads wait for each other by spinning for long. Next to any other busy process the network then
# takes many times as long (two cores, two networks at once: 4.3 s a megapixel each; 1.8 with this count; 1.35 without
# any spinning, which costs 0.88 against 0.74 on an idle machine). Read when torch loads its OpenMP, hence here.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
