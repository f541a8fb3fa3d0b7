"""Models of users and items."""

from models.recommenders.matrix_factorization import MatrixFactorization

__all__ = ["MatrixFactorization"]
