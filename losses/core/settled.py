"""A function of means that is dear: differentiated once, not by each block again."""

from jaxtyping import Array, Float

from losses.core.of_means import Means, OfMeans

_SLOPE, _VALUE = "slope of ", "value"


class SettledOnce(OfMeans, abstract=True):
    """An `OfMeans` whose f and ∇f stand beside the means once these are known."""

    def settled(self, means: Means) -> Means:
        """Return the means, and f and its slopes in them."""
        value, slopes = self.value_and_slopes(means)
        of_each = {_SLOPE + name: slope for name, slope in slopes.items()}
        return {**means, **of_each, _VALUE: value}

    def value_and_slopes(self, means: Means) -> tuple[Float[Array, ""], Means]:
        if _VALUE not in means:
            return super().value_and_slopes(means)
        slopes = {
            name.removeprefix(_SLOPE): slope
            for name, slope in means.items()
            if name.startswith(_SLOPE)
        }
        return means[_VALUE], slopes
