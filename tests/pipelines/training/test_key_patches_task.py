"""Training on key patches: items, every variant, what the discriminator sees, figures by hand, the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

import zeuxis
from tests.pipelines.training.block_photos import block_bank, blocks
from tests.pipelines.training.steps import batch_of, learn
from tests.zeuxis.command import called
from zeuxis.pipelines.assembling.network import Assembler
from zeuxis.pipelines.examples import made_example
from zeuxis.pipelines.models import built
from zeuxis.pipelines.training import logs, patch_figures
from zeuxis.pipelines.training.key_patches import KeyPatchTask, make_task
from zeuxis.pipelines.training.options import NETWORKS, TrainOptions, resolved
from zeuxis.pipelines.training.own_options import VARIANTS
from zeuxis.pipelines.training.patch_figures import iou
from zeuxis.pipelines.training.patch_items import another, as_item, mirrored
from zeuxis.pipelines.training.patch_pictures import mask_of
from zeuxis.pipelines.training.photographs import BankOrigin
from zeuxis.pipelines.training.resume import refuse_other_settings
from zeuxis.pipelines.training.standing import settings_of
from zeuxis.storage.errors import InputError
from zeuxis.storage.reader import Reader
from zeuxis.synth.checkpoint import load_checkpoint
from zeuxis.synth.encoding import to_image
from zeuxis.synth.key_patches.losses import HINGE, decayed
from zeuxis.synth.key_patches.views import viewed

OPTIONS = TrainOptions(preset="tiny", size=(64, 64), lr=2e-3, batch=2, devices="cpu", steps=10)
QUICK = {"preset": "tiny", "batch": 1, "devices": "cpu", "validate_every": 2, "log_every": 1}

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(logs, "draw_curve", lambda *_: b"a picture")
    monkeypatch.setattr(TrainOptions, "width", 1 / 16)


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Path:
    return block_bank(tmp_path_factory.mktemp("task"))


def task_of(bank, tmp_path, **options) -> KeyPatchTask:
    return KeyPatchTask(BankOrigin(Reader(bank)), tmp_path, replace(OPTIONS, **options))


# ---- items


def test_items_depend_on_seed_and_number_alone_and_are_mirrored_as_a_whole(bank, tmp_path):
    one, again = (task_of(bank, tmp_path, parts=(1, 3)).dataset() for _ in range(2))
    pictures, mirrors, counts = one.pictures, 0, set()
    for k in range(18, 34):  # 10 steps of 2: in the end they are the pictures
        item = one[k]
        assert all(torch.equal(each, again[k][name]) for name, each in item.items())
        n = int(item["present"].sum())
        counts.add(n)
        assert item["present"].tolist() == [1.0] * n + [0.0] * (3 - n)
        assert item["z"].abs().max() <= 1
        for number in range(2):
            for flip in (False, True):
                wanted = as_item(pictures[number], n, 3, "kept", flip=flip)
                if all(torch.equal(wanted[name], item[name]) for name in wanted):
                    mirrors += flip
                    other = as_item(pictures[1 - number], 1, 1, "kept")["image"]
                    assert torch.equal(item["other"], other), "never the picture itself"
                    break
            else:
                continue
            break
        else:
            pytest.fail("neither of the pictures, nor mirrored")
    assert counts == {1, 2, 3}
    assert 3 < mirrors < 13
    held = task_of(bank, tmp_path).held_out
    assert torch.equal(held[0]["image"], as_item(held.pictures[0], 3, 3, "kept")["image"])
    assert len(held.pictures) == 1


def test_a_mirrored_item_has_its_patches_where_they_are_then(bank, tmp_path):
    picture = task_of(bank, tmp_path).dataset().pictures[0]
    plain, flipped = (as_item(picture, 3, 5, "kept", flip=flip) for flip in (False, True))
    for name in ("image", "mask"):
        assert torch.equal(flipped[name], plain[name].flip(-1))
    assert torch.equal(flipped["patches"], plain["patches"].flip(-1))
    assert plain["patches"].shape == (5, 3, 64, 64)
    assert torch.equal(plain["patches"][len(picture.boxes)], plain["patches"][0]), "absent places repeat those there"
    assert plain["present"].sum() == len(picture.boxes)
    boxes = mirrored(picture.boxes, 64)
    assert np.array_equal(mask_of(boxes, 64), mask_of(picture.boxes, 64)[:, ::-1])
    one = as_item(picture, 1, 3, "kept")
    assert np.array_equal(one["mask"][0].numpy() > 0, mask_of(picture.boxes[:1], 64)), "of the best one alone"
    assert {another(2, 4, np.random.default_rng(seed)) for seed in range(30)} == {0, 1, 3}
    assert another(0, 1, np.random.default_rng(0)) == 0


def test_at_first_items_are_drawn_about_the_pictures_half_of_them_with_random_patches(bank, tmp_path, monkeypatch):
    items = task_of(bank, tmp_path, steps=1000).dataset()
    asked = []
    drawn = items.pictures.redrawn
    monkeypatch.setattr(
        items.pictures, "redrawn", lambda k, random, **how: asked.append(how) or drawn(k, random, **how)
    )
    whole = {items.pictures.image(k).tobytes() for k in range(2)}
    for k in range(40):
        assert to_image(items[k]["image"]).tobytes() not in whole
    assert 10 < sum(how["anywhere"] for how in asked) < 30
    assert all(how["spread"] == 1 for how in asked)
    for k in (1100, 1500):  # of 1000 steps of 2
        items[k]
    assert [how["spread"] for how in asked[-2:]] == [pytest.approx(0.5), 0]
    items = task_of(bank, tmp_path, patches="key", objects="car", steps=1000).dataset()
    masks = set()
    for k in range(20):
        item = items[k]
        assert item["image"].shape == (3, 64, 64)
        masks.add(item["mask"].numpy().tobytes())
    assert len(masks) > 10, "key patches move with the square"
    assert task_of(bank, tmp_path, patches="key").name == "key-patches-key"


def test_random_patches_are_drawn_anew_for_each_item(bank, tmp_path):
    task = task_of(bank, tmp_path, patches="random")
    items = task.dataset()
    assert task.name == "key-patches-random"
    assert len({items[k]["mask"].numpy().tobytes() for k in range(8)}) == 8
    assert torch.equal(task.held_out[0]["mask"], task.held_out[0]["mask"])


# ---- losses and variants


@pytest.mark.parametrize("variant", [None, *VARIANTS["key-patches"]])
def test_every_variant_takes_steps_and_learns_a_batch(bank, tmp_path, monkeypatch, variant):
    task = task_of(bank, tmp_path, variant=variant, objects="car", steps=1000)
    modules, batch = task.modules(), batch_of(task)
    if variant == "conditional-gan":  # else both chase each other: nothing holds pictures to the photographs
        both = task.optimisers(modules)
        both["net"].param_groups[0]["lr"] = 0.0
        monkeypatch.setattr(task, "optimisers", lambda _: both)
    first, *_, last = learn(task, modules, batch, 12)
    assert task.name == "-".join(filter(None, ["key-patches", variant]))
    assert set(last) == ({"net"} if variant == "auto-encoder" else {"net", "discriminator"})
    learned = "discriminator" if variant == "conditional-gan" else "net"
    assert last[learned] < 0.8 * first[learned]
    net = modules["net"].eval()
    with torch.no_grad():
        figures, shown = task.validate(net), task.grid(net)
    masked = variant in (None, "plain-gan")
    assert task.net_config.has_mask == masked
    assert ("mask_iou" in figures) == masked
    assert {"shortfall", "appearance", "restored"} <= set(figures)
    assert all(np.isfinite(list(figures.values())))
    assert shown.shape == (64, 64 * (6 + masked), 3)
    assert json.loads(json.dumps([task.extra(modules), task.config()]))[0]["objects"] == "car"


def test_the_total_is_equation_1_and_the_discriminator_sees_six_kinds_of_pictures(bank, tmp_path):
    task = task_of(bank, tmp_path, steps=101)
    modules, batch = task.modules(), batch_of(task)
    seen, answers = [], []
    modules["discriminator"].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    modules["net"].register_forward_hook(lambda *given: answers.append(given[2]))
    for step, kinds, made_kinds in ((0, 2, 1), (5, 6, 3), (100, 6, 3)):
        seen.clear()
        (_, total, parts), (_, judged, _) = task.losses(modules, batch, step)
        weights = decayed(step / 100, 64)
        wanted = weights.appearance * (parts["appearance"] + parts["inside"]) + parts["fooled"]
        wanted = wanted + weights.spatial * (parts["spatial"] + HINGE.overlap * parts["overlap"])
        assert float(total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
        (made, mask), image, true = answers[-1], batch["image"], batch["mask"]
        shown = [float((made * each - image * true).abs().mean().detach()) for each in (mask, true)]
        found = [float(parts[name].detach()) for name in ("appearance", "inside")]
        assert found == pytest.approx(shown, rel=1e-5)
        assert [len(each) for each in seen] == [2 * made_kinds, 2 * kinds]
        assert seen[0].requires_grad
        assert not seen[1].requires_grad
        image, made = batch["image"], seen[0][:2]
        assert torch.equal(seen[1][:2], image)
        assert torch.equal(seen[1][2:4], made)
        judged.backward()
    mask, other = batch["mask"], batch["other"]
    pasted = [mask * made + (1 - mask) * image, (1 - mask) * made + mask * image]
    swapped = [mask * other + (1 - mask) * image, (1 - mask) * other + mask * image]
    torch.testing.assert_close(seen[0][2:], torch.cat(pasted))
    torch.testing.assert_close(seen[1][4:], torch.cat([*pasted, *swapped]).detach())
    assert all(each.grad is not None for each in modules["discriminator"].parameters())


def test_variants_lower_what_they_say(bank, tmp_path):
    for variant, parts in (
        ("no-mask", {"appearance", "fooled"}), ("auto-encoder", {"pixel"}), ("conditional-gan", {"fooled"}),
        ("plain-gan", {"appearance", "inside", "spatial", "overlap", "fooled"}),
    ):  # fmt: skip
        task = task_of(bank, tmp_path, variant=variant)
        modules, batch = task.modules(), batch_of(task)
        seen = []
        if "discriminator" in modules:
            modules["discriminator"].register_forward_pre_hook(lambda _, given, to=seen: to.append(given))
        first, *_ = task.losses(modules, batch, 9)
        assert set(first[2]) == parts
        if variant == "no-mask":
            made = modules["net"](batch["patches"], batch["present"], batch["z"])[0]
            inside = functional.l1_loss(made * batch["mask"], batch["image"] * batch["mask"])
            assert float(first[2]["appearance"].detach()) == pytest.approx(float(inside.detach()), rel=1e-5)
        counts = {"no-mask": [6, 12], "auto-encoder": [], "conditional-gan": [2, 6], "plain-gan": [2, 4]}
        assert [len(each[0]) for each in seen] == counts[variant]
        if variant == "conditional-gan":  # photographs with their own patches, then with those of others
            embedding = modules["net"].encode(batch["patches"], batch["present"])
            torch.testing.assert_close(seen[1][1], embedding.repeat(3, 1).detach())
            assert torch.equal(seen[1][0][4:], batch["other"])


def test_the_mask_decoder_alone_sets_the_network_apart_from_its_rival(bank, tmp_path):
    """Where both make the same picture, the true mask shows as much of it in the loss of either."""
    counts = {}
    for variant in (None, "no-mask"):
        task = task_of(bank, tmp_path, variant=variant, steps=101)
        modules, batch = task.modules(), batch_of(task)
        made = torch.zeros_like(batch["image"]).requires_grad_(True)
        mask = torch.zeros_like(batch["mask"])  # places that were not predicted
        modules["net"] = Answering(task.net_config, lambda _, made=made, mask=mask: (made, mask))
        modules["discriminator"] = task._discriminator = Silent()
        (_, total, _), *_ = task.losses(modules, batch, 50)
        total.backward()
        counts[variant] = made.grad
        weight = decayed(0.5, 64).appearance
        wanted = -weight * batch["mask"] * batch["image"].sign() / batch["image"].numel()
        torch.testing.assert_close(made.grad, wanted)
    torch.testing.assert_close(counts[None], counts["no-mask"])


def test_other_weights_of_the_loss_are_another_training(bank, tmp_path):
    origin = BankOrigin(Reader(bank))
    options = resolved(OPTIONS, "key-patches", (48, 64))
    usual, same, other = (
        KeyPatchTask(origin, tmp_path, options, weights=weights)
        for weights in (None, replace(HINGE), replace(HINGE, mixed=0.25, overlap=0.0))
    )
    settings = settings_of(usual, options)
    assert settings["other loss weights"] is None
    assert settings_of(same, options) == settings
    before = {name: value for name, value in settings.items() if name != "other loss weights"}
    refuse_other_settings(tmp_path, before, settings)  # as was written before there was such a setting
    changed = settings_of(other, options)
    assert changed["other loss weights"] == {"mixed": 0.25, "overlap": 0.0}
    with pytest.raises(InputError, match=r"expected .*loss weights mixed null.*, found .*loss weights mixed 0.25"):
        refuse_other_settings(tmp_path, settings, changed)
    paper = replace(options, objective="log")
    task = KeyPatchTask(origin, tmp_path, paper, weights=HINGE)
    assert set(settings_of(task, paper)["other loss weights"]) >= {"overlap", "inside", "balanced"}


def test_below_full_width_its_rate_and_running_mean_are_its_own():
    for name, rate, decay in (("tiny", 1e-3, 0.995), ("small", 1e-3, 0.995), ("paper-256", 2e-4, 0.999)):
        found = resolved(TrainOptions(preset=name), "key-patches", (48, 64))
        assert (found.lr, found.ema) == (rate, decay)
        given = resolved(TrainOptions(preset=name, lr=3e-4, ema=0.9), "key-patches", (48, 64))
        assert (given.lr, given.ema) == (3e-4, 0.9)
        assert resolved(TrainOptions(preset=name, ema=0.0), "key-patches", (48, 64)).ema == 0
        for network in NETWORKS:
            if network != "key-patches":
                assert resolved(TrainOptions(preset=name), network, (192, 256)).ema == 0.999


def test_making_a_picture_leaves_the_discriminator_as_it_is(bank, tmp_path):
    task = task_of(bank, tmp_path)
    modules, batch = task.modules(), batch_of(task)
    steps = task.losses(modules, batch, 3)
    next(steps)[1].backward()
    assert all(each.grad is None and each.requires_grad for each in modules["discriminator"].parameters())
    assert all(each.grad is not None for each in modules["net"].parameters())


def test_ratio_augmentation_and_the_papers_choices(bank, tmp_path, monkeypatch):
    task = task_of(bank, tmp_path, ratio=(2, 3))
    modules, drawn = task.modules(), []
    modules["net"].register_forward_pre_hook(lambda _, given: drawn.append(given[2]))
    batch = batch_of(task)
    assert [name for name, *_ in task.losses(modules, batch, 1)] == ["net"] * 3 + ["discriminator"] * 2
    assert torch.equal(drawn[0], batch["z"])
    assert len({each.numpy().tobytes() for each in drawn}) == len(drawn) == 4, "noise of its own for each step"
    assert all(-1 <= each.min() < -0.5 and 0.5 < each.max() <= 1 for each in drawn)
    task = task_of(bank, tmp_path, augment=True)
    asked = []
    monkeypatch.setattr("zeuxis.pipelines.training.key_patches.changed", lambda x: asked.append(len(x)) or x)
    assert len(list(task.losses(task.modules(), batch_of(task), 9))) == 2
    assert asked == [6, 12]
    task = task_of(bank, tmp_path, norm="batch", objective="log")
    modules, batch = task.modules(), batch_of(task)
    seen = []
    modules["discriminator"].register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    (_, total, parts), _ = task.losses(modules, batch, 9)
    assert seen == [2] * 9, "what is normalised together is of one kind"
    weights = decayed(1, 64)
    wanted = weights.appearance * parts["appearance"] + weights.spatial * parts["spatial"] + parts["fooled"]
    assert float(total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5), "no overlap in the paper"
    assert any(isinstance(each, nn.BatchNorm2d) for each in modules["net"].modules())


def test_the_conditional_gan_learns_with_the_papers_norm_and_loss(bank, tmp_path):
    task = task_of(bank, tmp_path, variant="conditional-gan", norm="batch", objective="log", steps=1000)
    modules, batch = task.modules(), batch_of(task)
    seen = []
    modules["discriminator"].register_forward_pre_hook(lambda _, given: seen.append([len(each) for each in given]))
    before = {name: each.detach().clone() for name, each in modules.named_parameters()}
    ((first, *_),) = [learn(task, modules, batch, 1)]
    assert set(first) == {"net", "discriminator"}
    assert all(np.isfinite(list(first.values())))
    assert seen == [[2, 2]] * 4, "each kind of picture apart, with what it is told of the patches"
    assert {name.split(".")[0] for name, each in modules.named_parameters() if not torch.equal(each, before[name])} == {
        "net", "discriminator"
    }  # fmt: skip


# ---- figures


class Answering(nn.Linear):
    """Answers with pictures and masks that it is told."""

    def __init__(self, config, answer) -> None:
        super().__init__(1, 1)
        self.config, self.answer, self.usual = config, answer, None

    def forward(self, patches, present, z):
        return tuple(each.expand(len(patches), -1, -1, -1) for each in self.answer(patches))


def asked_once(net, *given):
    """What `viewed` gives, of a network that does not look at what it is asked about."""
    return (*net(*given[:3]), None)


class Silent(nn.Linear):
    """A discriminator to which all pictures are the same."""

    def __init__(self) -> None:
        super().__init__(1, 1)

    def forward(self, images):
        return images.new_zeros(len(images)) + 0 * self.weight.sum()


def test_figures_say_what_a_network_does(bank, tmp_path, monkeypatch):
    monkeypatch.setattr(patch_figures, "viewed", asked_once)
    task = task_of(bank, tmp_path)
    task.dataset()
    item = task.held_out[0]
    image, true = item["image"][None], item["mask"][None]
    with torch.no_grad():
        perfect = task.validate(Answering(task.net_config, lambda _: (image, 0.8 * true)))
        assert (perfect["mask_iou"], perfect["appearance"], perfect["shortfall"]) == (1, 0, 0)
        off = (image + 0.25).clamp(max=2)
        half = true.clone()
        half[..., :32, :] = 0
        found = task.validate(Answering(task.net_config, lambda _: (off, half)))
        assert found["appearance"] == pytest.approx(0.25, rel=1e-4)
        assert found["mask_iou"] == pytest.approx(float(half.sum() / true.sum()), rel=1e-5)
        restored = (off * half - image * true).abs().mean() / true.mean()
        assert found["restored"] == pytest.approx(float(restored), rel=1e-4)
        ignorant = task._judging._ignorant
        found = task.validate(Answering(task.net_config, lambda _: (ignorant.image[None], ignorant.mask[None])))
        assert found["shortfall"] == pytest.approx(1), "knowing nothing"
        assert found["mask_iou"] == pytest.approx(found["mask_iou_mean"])
    masks = [each.mask() for each in (task.samples.pictures[k] for k in range(2))]
    both, either = masks[0] & masks[1], masks[0] | masks[1]
    reached = [np.mean([(m & at).sum() / (m | at).sum() for m in masks]) for at in (both, either)]
    best = ignorant.mask[0].numpy() > 0
    assert np.mean([(m & best).sum() / (m | best).sum() for m in masks]) == pytest.approx(max(reached))
    assert iou(torch.zeros(1, 1, 2, 2) > 0, torch.zeros(1, 1, 2, 2) > 0).tolist() == [1]


def test_the_cut_of_masks_is_fitted_to_held_out_pictures(bank, tmp_path, monkeypatch):
    task = task_of(bank, tmp_path, objects="car", patches="key", steps=1000)
    task.dataset()
    truth = {}
    for k in range(len(task.held_out.pictures)):
        item = task.held_out[k]
        truth[item["patches"].numpy().tobytes()] = item["mask"]
    monkeypatch.setattr(patch_figures, "viewed", asked_once)

    def timid(patches):
        """Right everywhere, but never sure; around it a halo that is less sure."""
        true = torch.stack([truth[each.numpy().tobytes()] for each in patches])
        halo = functional.max_pool2d(true, 9, 1, 4)
        return torch.zeros(len(patches), 3, 64, 64), 0.32 * true + 0.1 * (halo - true)

    with torch.no_grad():
        found = task.validate(Answering(task.net_config, timid))
    assert task._judging.cut == task.extra(None)["mask_cut"] == 0.3, "of those from 0.1 to 0.3, the one next to 1/2"
    assert found["mask_iou"] == 1
    rival = task_of(bank, tmp_path, variant="no-mask")
    assert "mask_cut" not in rival.extra(None)


def test_a_network_knows_where_training_patches_usually_are(bank, tmp_path):
    task = task_of(bank, tmp_path, objects="car")
    usual = task.modules()["net"].usual
    pictures = task.samples.pictures
    boxes = [box for k in range(len(pictures)) for box in pictures[k].boxes.tolist()]
    for row, col in ((32, 32), (10, 40), (0, 0)):
        share = np.mean([top <= row < bottom and left <= col < right for top, left, bottom, right in boxes])
        assert float(usual[0, row, col]) == pytest.approx(share)
    assert usual.max() > 0.2
    assert task_of(bank, tmp_path, variant="no-mask").modules()["net"].usual is None


def test_figures_are_of_masks_as_they_are_used(bank, tmp_path):
    task = task_of(bank, tmp_path)
    task.dataset()
    net = task.modules()["net"].eval()
    items = [task.held_out[0]]
    batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
    with torch.no_grad():
        _, mask, _ = viewed(net, batch["patches"], batch["present"], batch["z"], net.usual)
        found = task.validate(net)
    wanted = iou(mask > task._judging.cut, batch["mask"] > 0.5)
    assert found["mask_iou"] == pytest.approx(float(wanted.mean()))
    assert task.extra(None)["views"] is True
    assert "views" not in task_of(bank, tmp_path, variant="no-mask").extra(None)


def test_patches_keep_their_shapes_and_stretched_ones_are_another_training(bank, tmp_path):
    task = task_of(bank, tmp_path)
    stretching = KeyPatchTask(BankOrigin(Reader(bank)), tmp_path, OPTIONS, aspect="stretched")
    assert (task.config()["aspect"], stretching.config()["aspect"]) == ("kept", "stretched")
    kept, stretched = (each.held_out for each in (task, stretching))
    heights, widths = (kept.pictures[0].boxes[:, side + 2] - kept.pictures[0].boxes[:, side] for side in (0, 1))
    longest = max(heights.max(), widths.max())
    for square, rows, cols in zip(kept[0]["patches"], heights, widths, strict=True):
        shown = (square != square[:, :1, :1]).any(0) if max(rows, cols) < longest else square.new_ones(64, 64)
        assert shown.any(1).sum() <= round(64 * rows / longest)
        assert shown.any(0).sum() <= max(64 if rows == longest else 0, round(64 * cols / longest))
    assert torch.equal(kept[0]["mask"], stretched[0]["mask"])
    assert not torch.equal(kept[0]["patches"], stretched[0]["patches"])
    wanted = [cv2.resize(each, (64, 64), interpolation=cv2.INTER_CUBIC) for each in kept.pictures[0].patches]
    np.testing.assert_array_equal(np.stack([to_image(each) for each in stretched[0]["patches"]]), np.stack(wanted))
    before, after = (settings_of(each, OPTIONS) for each in (stretching, task))
    with pytest.raises(InputError, match="was trained otherwise"):
        refuse_other_settings(tmp_path / "resume.safetensors", before, after)
    with pytest.raises(InputError, match="was trained otherwise"):  # as it was before there was a choice
        refuse_other_settings(tmp_path / "resume.safetensors", {**after, "revision": 2}, after)


# ---- all of it


def test_equal_seeds_give_equal_networks_which_can_be_built_again(bank, tmp_path):
    whole = zeuxis.train("key-patches", bank, tmp_path / "whole", steps=4, size=(64, 64), **QUICK)
    (report,) = zeuxis.train("key-patches", bank, tmp_path / "parts", steps=4, size=(64, 64), **QUICK)
    assert whole[0].checkpoint.read_bytes() == report.checkpoint.read_bytes(), "equal seeds"
    assert (report.figure, report.name) == ("shortfall", "key-patches")
    card, tensors = load_checkpoint(report.checkpoint, "key-patches")
    net = built("key-patches", card, tensors, report.checkpoint).eval()
    inputs = made_example("key-patches", 4, card.size, card.config).inputs
    with torch.no_grad():
        image, mask = net(*inputs)
    assert image.shape[1:] == (3, 64, 64)
    assert mask.shape[1:] == (1, 64, 64)
    assert card.training["objects"] is None
    assert card.training["pictures"] == 2
    assert 0 < card.training["mask_cut"] < 1
    assert Assembler(tmp_path / "whole").cut == card.training["mask_cut"]
    assert (tmp_path / "whole" / "logs" / "key-patches" / "grids").is_dir()
    with pytest.raises(InputError, match="was trained otherwise, expected objects null"):
        zeuxis.train("key-patches", bank, tmp_path / "parts", steps=6, size=(64, 64), objects="car", **QUICK)


def test_photographs_without_a_bank_and_what_is_refused(bank, tmp_path, capsys, monkeypatch):
    for number in range(3):
        Image.fromarray(blocks(number)).save(tmp_path / f"{number}.png")
    models = tmp_path / "models"
    train = [
        "train",
        "key-patches",
        "--models",
        models,
        "--preset",
        "tiny",
        "--steps",
        1,
        "--batch",
        1,
        "--devices",
        "cpu",
    ]
    photographs = ["--dataset", f"images:{tmp_path}", "--patches", "random", "--variant", "no-mask"]
    assert called(monkeypatch, capsys, *train, *photographs).code == 0
    for extra, said in (
        (["--class", "boat"], "zeuxis: class 'boat': expected one of the bank's: car, ground, sign, sky, found no"),
        (["--class", "sign"], "zeuxis: bank: expected pictures of class 'sign', found no sign large enough"),
    ):
        ran = called(monkeypatch, capsys, *train, "--bank", bank, *extra)
        assert ran.code == 2
        assert said in " ".join(ran.errors)
    with pytest.raises(InputError, match="64x64"):
        make_task(Reader(bank), tmp_path, resolved(replace(OPTIONS, size=(96, 128)), "key-patches", (48, 64)))
    assert [each.name for each in models.glob("*.safetensors")] == ["key-patches-no-mask-random.safetensors"]
