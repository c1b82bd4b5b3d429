"""How fast a run was, and what held it up, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .line import Rate, bottleneck

if TYPE_CHECKING:
    from rich.table import Table


def note_of(rates: Sequence[Rate], seconds: float) -> str:
    """What progress says: how busy each stage has been."""
    return ", ".join(f"{rate.stage} {rate.share(seconds):.0%}" for rate in rates)


def rate_table(rates: Sequence[Rate], seconds: float, cores: int, device: bool) -> Table:
    """One line a stage, and what is the bottleneck."""
    from rich.table import Table

    table = Table("stage", "threads", "images", "busy", "ms an image", "core ms an image", box=None, pad_edge=False)
    for rate in rates:
        images = max(rate.images, 1)
        table.add_row(
            rate.stage, str(rate.threads), f"{rate.images:,}", f"{rate.share(seconds):.0%}",
            f"{rate.busy / images * 1e3:.1f}", f"{rate.cpu / images * 1e3:.1f}",
        )  # fmt: skip
    made = max((rate.images for rate in rates), default=0)
    speed = made / seconds if seconds else 0.0
    table.caption = f"{speed:,.1f} images a second; the bottleneck: {bottleneck(rates, seconds, cores, device)}"
    return table
