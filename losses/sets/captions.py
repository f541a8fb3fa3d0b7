"""Images and their captions, told from all others of the global batch (CLIP)."""

import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.of_rows import Feature, OfRows, Rows, There
from losses.core.outputs import Outputs
from losses.functional.in_batch import image_text_contrast, image_text_kl
from losses.views.paths import check_view, path_on


class _OfCaptions(OfRows, abstract=True):
    """Rows of several paths, each row the mean of its counted tokens."""

    unit = "nats"

    def features(self, outputs: Outputs) -> Mapping[str, Feature]:
        weights = jnp.ones(outputs.batch["targets"].shape, jnp.float32)
        return {
            path: Feature(outputs.intermediate(path), weights) for path in self.needs
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTextContrast(_OfCaptions):
    """`-½ mean_i (log softmax_j(s_ij)_i + log softmax_j(s_ji)_i)`, nats: CLIP's loss.

    `s_ij = <image_i, text_j> / T` over the images and captions of the global batch,
    whatever it is cut into. `log B` of B rows that are all alike; captions that several
    rows share are negatives of each other all the same, as in the sources.

    Source: Radford et al. 2021, CLIP (arXiv:2103.00020), figure 3; of images under
    attack (`view`, of `models.Ascent(objective="captions")`), AdvFLYP
    (arXiv:2604.11576), L_CLIP.

    Attributes:
      view: name of the view whose images they are; "" for the batch's.
      image: path of the images' embeddings, `[*b d]`, as `models.TwoTowers` has it.
      text: path of the texts', which its learned scale is among.
      temperature: T.

    Raises:
      ValueError: T is not positive, or the view no name.
    """

    view: str = ""
    image: str = "image"
    text: str = "scaled_text"
    temperature: float = 1.0

    def __post_init__(self):
        if not 0.0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.view:
            check_view(self.view)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - fields decide
        return frozenset({path_on(self.view, self.image), self.text})

    def of_rows(self, rows: Mapping[str, Rows], there: There) -> Float[Array, ""]:
        images = rows[path_on(self.view, self.image)]
        return image_text_contrast(
            images, rows[self.text], there, temperature=self.temperature
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTextKL(_OfCaptions):
    """`mean_i KL(p(x̃_i) ‖ q_i)`, nats, with `p(x)_j = softmax_j <f(x), text_j>`.

    Over all captions of the global batch, of an image on a view, and q of what is
    beside it: the batch's own image, with a gradient; or the teacher's, without one,
    which `runner.ViewTeacher` shows the view too.

    Source: AdvFLYP (arXiv:2604.11576), the halves of L_logit, weight 1.

    Attributes:
      view: its name.
      beside: path of the other images: `"image"`, or `"teacher/image"`.
      image: path of the images on the view.
      text: path of the texts', which a learned scale is among.

    Raises:
      ValueError: the view is no name.
    """

    view: str
    beside: str = "image"
    image: str = "image"
    text: str = "scaled_text"

    def __post_init__(self):
        check_view(self.view)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - fields decide
        return frozenset({path_on(self.view, self.image), self.beside, self.text})

    def of_rows(self, rows: Mapping[str, Rows], there: There) -> Float[Array, ""]:
        moved = rows[path_on(self.view, self.image)]
        return image_text_kl(moved, rows[self.beside], rows[self.text], there)
