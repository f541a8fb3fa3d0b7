"""Models whose large matrices are made of smaller ones: code books, factors."""

from models.factored.code_book import VQHead
from models.factored.low_rank_sparse import LOST

__all__ = ["LOST", "VQHead"]
