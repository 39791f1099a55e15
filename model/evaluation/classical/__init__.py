"""Classical methods to run beside the network: one small file each, its paper cited.

A method is a function from pixels H×W×3 uint8 to a map H×W float32 in [0, 1], the same for the same pixels. The maps
are aids for a person to look at, not verdicts: none of them is calibrated.
"""
