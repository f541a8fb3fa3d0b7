"""What a trained model's held-out loss is to be read beside."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Baseline:
    """How well something simple predicts the held-out data.

    nats_per_token: per target; None where there are no probabilities of these.
    bits_per_byte:  of the UTF-8 text; None where there is none.
    accuracy:       share of the targets that it finds; None where it was not asked.
    """

    name: str
    nats_per_token: float | None = None
    bits_per_byte: float | None = None
    accuracy: float | None = None
