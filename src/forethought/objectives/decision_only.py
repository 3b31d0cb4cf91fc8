"""Next-token prediction with the loss on the decision tokens alone."""

from jaxtyping import Float
from torch import Tensor

from forethought.objectives.base import mean_where
from forethought.objectives.next_token import NextToken
from forethought.tasks import Batch


class DecisionOnly(NextToken):
    """Decision only: the decision tokens alone, from the prompt and the true tokens before each.

    With D the decision tokens (row b, position i) of a batch, as the task defines them,

        loss = -1/|D| Σ_{(b,i) ∈ D} log p(y_bi | x_b, y_b,<i)          0 if D is empty

    On a path-star graph:

        input     x_1 … x_P  y_1  y_2  …
        target           ·   y_2   ·   …            y_1 and y_3 … carry no loss

    The "indecipherable token": no later token is left to cheat with, and none to learn from.
    All other tokens are untrained, so free-running answers are not right from end to end: read
    `decision_accuracy`.

    Source: Bachmann & Nagarajan, "The Pitfalls of Next-Token Prediction" (2403.06963), for the token;
    trained alone in Noroozizadeh et al. (2510.26745).
    """

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        losses = self.cross_entropy(self.answer_logits(batch), batch.answer, "none")
        return mean_where(losses, self.task.decision_mask(batch))
