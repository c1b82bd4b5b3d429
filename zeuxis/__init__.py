"""zeuxis: a bank of image segments; retrieve by semantic layout, paint photographs from what was retrieved.

    import zeuxis

    zeuxis.rebuild("nyu:PATH", "BANK")
    bank = zeuxis.open("BANK")
    for component in bank.retrieve("layout.png", k=5):
        for hit in component.hits:
            hit.pixels(), hit.mask(), hit.score

Everything is imported when it is first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bank import Bank
    from .calls import assemble, collage, explain, inpaint, like, open, paint, retrieve, similar
    from .generators import Generator, generator
    from .index.appearance import Similar
    from .index.explain import Explanation
    from .index.merge import merge_hits
    from .index.result import Component, Hit, Retrieval
    from .pipelines.agreement import agreement
    from .pipelines.check import check
    from .pipelines.compile import compile
    from .pipelines.demo import demo
    from .pipelines.evaluation.evaluate import evaluate
    from .pipelines.evaluation.inpaint import evaluate_inpaint
    from .pipelines.evaluation.key_patches import evaluate_key_patches
    from .pipelines.evaluation.region_semantics import evaluate_region_semantics
    from .pipelines.forget import forget
    from .pipelines.generations import collect, generations, rollback
    from .pipelines.info import info, verify
    from .pipelines.rebuild import rebuild
    from .pipelines.repair import repair
    from .pipelines.scenes import scenes
    from .pipelines.synthesis.synthesize import synthesize
    from .pipelines.train import train
    from .storage.classes import VOID
    from .storage.errors import ZeuxisError

_HOME = {
    "Bank": ".bank",
    "assemble": ".calls",
    "collage": ".calls",
    "explain": ".calls",
    "inpaint": ".calls",
    "like": ".calls",
    "open": ".calls",
    "paint": ".calls",
    "retrieve": ".calls",
    "similar": ".calls",
    "Generator": ".generators",
    "generator": ".generators",
    "Similar": ".index.appearance",
    "Explanation": ".index.explain",
    "merge_hits": ".index.merge",
    "Component": ".index.result",
    "Hit": ".index.result",
    "Retrieval": ".index.result",
    "agreement": ".pipelines.agreement",
    "check": ".pipelines.check",
    "compile": ".pipelines.compile",
    "collect": ".pipelines.generations",
    "demo": ".pipelines.demo",
    "evaluate": ".pipelines.evaluation.evaluate",
    "evaluate_inpaint": ".pipelines.evaluation.inpaint",
    "evaluate_key_patches": ".pipelines.evaluation.key_patches",
    "evaluate_region_semantics": ".pipelines.evaluation.region_semantics",
    "forget": ".pipelines.forget",
    "generations": ".pipelines.generations",
    "info": ".pipelines.info",
    "rebuild": ".pipelines.rebuild",
    "repair": ".pipelines.repair",
    "rollback": ".pipelines.generations",
    "scenes": ".pipelines.scenes",
    "synthesize": ".pipelines.synthesis.synthesize",
    "train": ".pipelines.train",
    "verify": ".pipelines.info",
    "VOID": ".storage.classes",
    "ZeuxisError": ".storage.errors",
}

__all__ = [
    "VOID",
    "Bank",
    "Component",
    "Explanation",
    "Generator",
    "Hit",
    "Retrieval",
    "Similar",
    "ZeuxisError",
    "agreement",
    "assemble",
    "check",
    "collage",
    "collect",
    "compile",
    "demo",
    "evaluate",
    "evaluate_inpaint",
    "evaluate_key_patches",
    "evaluate_region_semantics",
    "explain",
    "forget",
    "generations",
    "generator",
    "info",
    "inpaint",
    "like",
    "merge_hits",
    "open",
    "paint",
    "rebuild",
    "repair",
    "retrieve",
    "rollback",
    "scenes",
    "similar",
    "synthesize",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
