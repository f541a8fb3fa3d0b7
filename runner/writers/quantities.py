"""Durations and quantities as short text."""

import math


def duration(seconds: float) -> str:
    """`0:07`, `1:23`, `2:03:45`, `3d 4h`; an en dash for what is no number."""
    if not math.isfinite(seconds):
        return "–"
    seconds = round(seconds)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour}h"
    if hours:
        return f"{hours}:{minute:02}:{second:02}"
    return f"{minute}:{second:02}"


def quantity(value: float) -> str:
    """Three digits with a metric suffix: `812`, `26.1k`, `1.20M`."""
    power = 0
    while value >= 999.5 and power < 5:
        value, power = value / 1000, power + 1
    digits = 0 if value >= 99.5 or not power else 1 if value >= 9.95 else 2
    return f"{value:.{digits}f}{('', 'k', 'M', 'G', 'T', 'P')[power]}"
