"""Models that draft: layers after the trunk that guess tokens further ahead."""

from models.drafting.wrapper import Drafted

__all__ = ["Drafted"]
