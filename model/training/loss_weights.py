"""λ1 and λ2 of the objective follow the validation (clue-method, equation 6: the rule itself is ours).

The paper says that the weights of BCE and Dice are "adjusted during training by validation performance" and not how.
BCE counts every pixel alike, so that with small regions it is content to mark nothing; Dice counts the overlap, so
that it is content to mark generously. Hence the rule, after each validation, with precision and recall of the marked
pixels over all validation pictures (authentic ones included: marks on them cost precision):

    share of Dice  d = λ2 / (λ1 + λ2)
    logit(d) ← logit(d) + rate · clip(ln(precision / recall), -1, 1)      then d is kept within [0.1, 0.9]

If recall lags, Dice gains; if precision lags, BCE gains; λ1 + λ2 stays what it was. A weight that starts at 0 stays 0:
who switches one loss off does not get it back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST, MOST = 0.1, 0.9


@dataclass(frozen=True, slots=True)
class LossWeights:
    """λ1 (BCE) and λ2 (Dice)."""

    bce: float
    dice: float

    def after(self, precision: float, recall: float, rate: float) -> LossWeights:
        """The weights after a validation.

        Args:
            precision, recall: of the marked pixels, above 0 (`model.training.validation` smooths them), to 1.
            rate: how far one validation can move logit(d); 0: not at all.
        """
        if rate == 0 or self.bce == 0 or self.dice == 0:
            return self
        total = self.bce + self.dice
        moved = math.log(self.dice / self.bce) + rate * min(max(math.log(precision / recall), -1.0), 1.0)
        share = 1 / (1 + math.exp(-moved))
        start = self.dice / total
        share = min(max(share, min(LEAST, start)), max(MOST, start))
        return LossWeights(total * (1 - share), total * share)
