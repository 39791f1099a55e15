"""Decimals of scores and thresholds in words."""

from __future__ import annotations


def told_apart(*values: float) -> int:
    """Decimals, from 3 to 9, with which different values are written differently: no score is above one like itself."""
    different = len(set(values))
    return next((digits for digits in range(3, 9) if len({round(value, digits) for value in values}) == different), 9)
