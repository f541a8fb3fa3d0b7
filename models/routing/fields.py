"""Checks of the fields of a mixture of experts."""

from models.routing.scores import Routing


def check_chosen(
    experts_per_token: int,
    num_experts: int,
    renormalize: bool,
    routing: Routing | None,
) -> None:
    """Refuse numbers of experts that no token can choose, or learn nothing from.

    Raises:
      ValueError: with both numbers.
    """
    if not 1 <= experts_per_token <= num_experts:
        raise ValueError(
            f"experts_per_token must be from 1 to num_experts ({num_experts}), "
            f"got {experts_per_token}"
        )
    if renormalize and experts_per_token == 1:
        raise ValueError(
            "renormalize needs experts_per_token of at least 2, got 1: "
            "every gate would be 1 and the router would learn nothing"
        )
    if routing is not None:
        routing.check(num_experts=num_experts, experts_per_token=experts_per_token)


def check_parts(
    num_shared_experts: int, shared_gate: bool, clamp: float | None, biases: bool
) -> None:
    """Refuse parts of experts without what they are parts of.

    Raises:
      ValueError: with the field that is missing.
    """
    if shared_gate and not num_shared_experts:
        raise ValueError("shared_gate needs num_shared_experts of at least 1, got 0")
    if clamp is not None and not biases:
        raise ValueError(f"clamp needs biases=True, got {clamp} without")
