"""Seconds and bytes in words, for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds in at most two units: `48 ms`, `0.4 s`, `35 s`, `3 min 20 s`, `40 min`, `2 h 10 min`, `3 days 4 h`."""
    if 0 < seconds < 0.0995:
        return f"{1000 * seconds:.0f} ms"
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        minutes, seconds = divmod(whole, 60)
        return f"{minutes} min" + (f" {seconds} s" if seconds else "")
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h" + (f" {minutes} min" if minutes else "")
    days, hours = divmod(round(hours + minutes / 60), 24)
    return f"{days} day{'s' * (days != 1)}" + (f" {hours} h" if hours else "")


def size(count: float) -> str:
    """Bytes in decimal units, as disks are sold: `812 B`, `3.4 MB`, `1.20 TB`."""
    for unit, digits in (("B", 0), ("kB", 0), ("MB", 1), ("GB", 1)):
        if count < 1000 - 0.5 * 10**-digits:
            return f"{count:,.{digits}f} {unit}"
        count /= 1000
    return f"{count:,.2f} TB"
