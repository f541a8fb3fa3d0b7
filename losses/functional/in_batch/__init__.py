"""Rows told from all others of their batch, without an array of all pairs."""

from losses.functional.in_batch.captions import image_text_contrast, image_text_kl
from losses.functional.in_batch.negatives import info_nce

__all__ = ["image_text_contrast", "image_text_kl", "info_nce"]
