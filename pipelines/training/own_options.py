"""Options of training that not every network has: what is allowed, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...storage.errors import InputError, sentence
from .canvas_settings import canvas_settings

if TYPE_CHECKING:
    from .options import TrainOptions

VARIANTS = {
    "synthesis": ("no-canvas", "image-space"),
    "crn": ("image-space", "encoder-decoder", "full-resolution", "gan", "pix2pix"),
    "roi": ("published", "glcic"),
    "key-patches": ("no-mask", "plain-gan", "auto-encoder", "conditional-gan"),
}
"""By network: what stands beside it to be compared with; `image-space` has its loss on pixels alone."""
ALL_VARIANTS = tuple(dict.fromkeys(each for those in VARIANTS.values() for each in those))
ADVERSARIAL_LR = 2e-4
"""Learning rate of the variants `gan` and `pix2pix` (Radford et al. 2016, Isola et al. 2017)."""
_OF_ROI = ("sliders", "categories", "regions", "penalty", "fourier", "spectral", "equalised", "blend")
_OF_KEY_PATCHES = ("parts", "patches", "norm", "objective", "ratio")
FROM_PHOTOGRAPHS = ("roi", "key-patches", "generator")
"""Networks that learn from photographs alone, of a bank or of a data set."""
ONLY = {
    "features": ("synthesis", "crn", *FROM_PHOTOGRAPHS, "all"),
    "variant": tuple(VARIANTS),
    "adversarial": ("synthesis", "all"),
    "images": ("crn",),
    "checkpointing": ("crn",),
    "vivid": ("crn",),
    "start": ("synthesis", "crn"),
    "calibrate_after": ("crn",),
    "dataset": FROM_PHOTOGRAPHS,
    "augment": FROM_PHOTOGRAPHS,
    "objects": ("key-patches", "generator"),
    **dict.fromkeys(_OF_ROI, ("roi",)),
    **dict.fromkeys(_OF_KEY_PATCHES, ("key-patches",)),
    **dict.fromkeys(("kind", "critic_steps"), ("generator",)),
    "second": ("domains",),
    "coarse": ("densify", "all"),
    "canvas": ("synthesis", "all"),
}
"""Options that not every network has, and what must be named for them to be given."""
FLAGS = {"start": "--from", "spectral": "--spectral-norm"}
"""What users write for these, where it is not `--` and the name."""
MOST_IMAGES = 64
"""Pictures of one pass."""
MOST_SLIDERS = 256
PENALTIES = ("inside", "outside", "r1")
PATCHES = ("mixed", "key", "random")
MOST_PARTS = 16
"""Key patches of a picture."""
NORMS = ("group", "batch")
OBJECTIVES = ("hinge", "log")
MOST_STEPS = 100
"""Of a discriminator for one of its generator, or the other way round."""
GENERATORS = ("began", "wgan-gp", "ladder-vae", "pixel-vae", "vae-gan")
"""Kinds of generators; the last three are what the others are compared with."""
WITHOUT_CRITIC = ("ladder-vae", "pixel-vae")
"""Those that learn from photographs and their own reconstructions alone."""
GENERATOR = "wgan-gp"
"""The kind that is trained where none is named."""


def check_own(options: TrainOptions) -> None:
    """Refuses values of options that not every network has.

    Raises:
        InputError: the sentence names the option.
    """
    canvas_settings(options.canvas or (), options.width)
    _check_rival(options)
    _check_roi(options)
    _check_key_patches(options)
    _check_generator(options)


def _check_rival(options: TrainOptions) -> None:
    """Refuses options of CRN that cannot be, or not together."""
    for name, most in (("images", MOST_IMAGES), ("calibrate_after", None)):
        value = getattr(options, name)
        if value is not None:
            at_least(name, value, 1)
            if most is not None and value > most:
                raise InputError(sentence(flag(name), expected=f"at most {most}", found=str(value)))
    if options.variant in ("gan", "pix2pix"):
        for name in ("images", "checkpointing", "start", "calibrate_after"):
            given = getattr(options, name)
            if given is not None and given is not False and (name, given) != ("images", 1):
                expected = f"without --variant {options.variant}"
                raise InputError(sentence(flag(name), expected=expected, found="with it", fix="leave it out"))
    if options.start is not None and options.variant not in (None, "image-space", "no-canvas"):
        expected = f"no --variant {options.variant}, which has no levels to begin with"
        raise InputError(sentence("--from", expected=expected, found="one", fix="leave it out"))


def _check_roi(options: TrainOptions) -> None:
    """Refuses options of RoI-GAN that cannot be, or not together."""
    from ...synth.inpainting.membrane import check_blend
    from ...synth.roi_gan.regions import KINDS

    for name, least in (("sliders", 0), ("categories", 0)):
        value = getattr(options, name)
        if value is not None:
            at_least(name, value, least)
            if value > MOST_SLIDERS:
                raise InputError(sentence(f"--{name}", expected=f"at most {MOST_SLIDERS}", found=str(value)))
    _one_of(options, "regions", KINDS)
    _one_of(options, "penalty", PENALTIES)
    if options.blend is not None:
        try:
            check_blend(options.blend)
        except ValueError as error:
            raise InputError(sentence("--blend", str(error))) from error
    if options.spectral and options.equalised:
        expected = "no --spectral-norm, which leaves nothing of it"
        raise InputError(sentence("--equalised", expected=expected, found="both", fix="leave one out"))
    fixed = {
        "published": ("categories", "penalty", "fourier", "spectral", "equalised", "augment", "blend"),
        "glcic": ("sliders", "categories", "penalty", "fourier", "spectral", "equalised", "augment"),
    }.get(options.variant or "", ())
    for name in fixed:
        if getattr(options, name) not in (None, False):
            expected = f"without --variant {options.variant}, which has its own or none"
            raise InputError(sentence(flag(name), expected=expected, found="with it", fix="leave it out"))


def _check_key_patches(options: TrainOptions) -> None:
    """Refuses options of the network of key patches that cannot be, or not together."""
    _one_of(options, "patches", PATCHES)
    _one_of(options, "norm", NORMS)
    _one_of(options, "objective", OBJECTIVES)
    if options.parts is not None:
        both = (options.parts, options.parts) if isinstance(options.parts, int) else tuple(options.parts)
        if len(both) != 2:
            raise InputError(sentence("parts", expected="a number, or the fewest and the most", found=repr(both)))
        fewest, most = both
        at_least("parts", fewest, 1)
        at_least("parts", most, fewest)
        if most > MOST_PARTS:
            raise InputError(sentence("--parts", expected=f"at most {MOST_PARTS}", found=str(most)))
    for steps in options.ratio or ():
        at_least("ratio", steps, 1)
        if steps > MOST_STEPS:
            raise InputError(sentence("--ratio", expected=f"at most {MOST_STEPS} on either side", found=str(steps)))
    if options.variant == "auto-encoder":
        for name in ("objective", "ratio", "augment"):
            if getattr(options, name) not in (None, False):
                expected = "without --variant auto-encoder, which has no discriminator"
                raise InputError(sentence(flag(name), expected=expected, found="with it", fix="leave it out"))


def _check_generator(options: TrainOptions) -> None:
    """Refuses options of generators that cannot be, or not together."""
    _one_of(options, "kind", GENERATORS)
    if options.critic_steps is not None:
        at_least("critic_steps", options.critic_steps, 1)
        if options.critic_steps > MOST_STEPS:
            found = str(options.critic_steps)
            raise InputError(sentence("--critic-steps", expected=f"at most {MOST_STEPS}", found=found))
        if options.kind not in (None, GENERATOR):
            found = f"with --kind {options.kind}"
            raise InputError(sentence("--critic-steps", expected=f"with --kind {GENERATOR}", found=found))
    if options.augment and options.kind in WITHOUT_CRITIC:
        expected = f"without --kind {options.kind}, which has no critic to show changed pictures"
        raise InputError(sentence("--augment", expected=expected, found="with it", fix="leave it out"))


def _one_of(options: TrainOptions, name: str, known: Sequence[str]) -> None:
    value = getattr(options, name)
    if value is not None and value not in known:
        raise InputError(sentence(flag(name), expected=f"one of {', '.join(known)}", found=repr(value)))


def at_least(name: str, value: Any, least: int) -> None:
    """Refuses what is no whole number, or below the least.

    Raises:
        InputError: the sentence names the option.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(sentence(name, expected=f"a whole number of at least {least}", found=repr(value)))


def check_only(options: TrainOptions, what: str) -> None:
    """Refuses options that another network has.

    Raises:
        InputError: `what`, a network or `all`, has no such option, or no such variant.
    """
    for name, those in ONLY.items():
        given = getattr(options, name)
        if given is not None and given is not False and what not in those:
            raise InputError(sentence(flag(name), expected=f"with {_listed(those)}", found=f"with {what}"))
    if options.variant in ALL_VARIANTS and options.variant not in (known := VARIANTS[what]):
        expected = f"one of {', '.join(known)} with {what}"
        raise InputError(sentence(f"variant {options.variant!r}", expected=expected, found="one of another network"))


def flag(name: str) -> str:
    """What users write for an option."""
    return FLAGS.get(name, "--" + name.replace("_", "-"))


def _listed(names: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
