"""Models of series: numbers of several channels, some of them missing."""

from models.series.imputer import Imputer

__all__ = ["Imputer"]
