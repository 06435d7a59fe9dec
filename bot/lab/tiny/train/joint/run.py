"""One joint run: a step draws, edits, looks and writes, and one backward pass trains it all."""

from __future__ import annotations

import time
from typing import Any, Final

import torch
from torch import Tensor, nn

from bot.engine.tiny.stored import WEIGHTS, read
from bot.lab.tiny.train import report
from bot.lab.tiny.train.base import Run
from bot.lab.tiny.train.flow import joint_block, text_layer
from bot.lab.tiny.train.joint.lessons import KINDS, LessonPool, LessonRenderers
from bot.lab.tiny.train.joint.networks import JointNetworks, joint_optimizers
from bot.lab.tiny.train.joint.objectives import (
    Layers,
    drawing_loss,
    editing_loss,
    read_states,
    seen_states,
    without_instructions,
    writing_loss,
)
from bot.lab.tiny.train.joint.plan import JointPlan
from bot.lab.tiny.train.joint.samples import write_samples
from bot.lab.tiny.train.joint.seeing import shrunk, vision_block
from bot.lab.tiny.train.networks import trained_vae
from bot.lab.tiny.train.optimizers import Average
from bot.lab.tiny.train.store import values_of, write_parts

_AVERAGED: Final = 0.998
_CLIP: Final = 1.0
_ODD_EVERY: Final = 8
"""Every eighth drawing batch has a size other than 256x256, once there are such scenes."""
_PAIRS_EVERY: Final = 4
"""Every fourth editing batch has two pictures."""
_CHANGES: Final = ("edit", "pair")
_LOGGED: Final = 50
_LAST_SAVE: Final = 12.0
"""Seconds that are kept for the last files, where a run's whole time is limited."""


class JointRun(Run):
    """A run's state. Make it before CUDA is touched: its renderers are forked."""

    def __init__(self, plan: JointPlan) -> None:
        started = time.perf_counter()
        self.plan = plan
        self.curves: dict[str, Any] = {"joint": []}
        self.done = 0
        if plan.resume is not None:
            self._read_curves()
        kinds = {k: v for k, v in KINDS.items() if k in _CHANGES} if plan.editor_only else KINDS
        seed = f"{plan.seed} {self.done}"
        self.renderers = LessonRenderers(seed, plan.workers, plan.chunk, kinds, plan.often)
        super().__init__(plan.device, since=started, half=plan.half, recompiles=64)
        torch.manual_seed(plan.seed)
        states = values_of(read(plan.resume or WEIGHTS))
        self.vae_states = {k: v for k, v in states.items() if k.startswith("vae.")}
        self.vae = trained_vae()
        self.vae.load_state_dict({k.removeprefix("vae."): v for k, v in self.vae_states.items()})
        self.vae.requires_grad_(requires_grad=False).to(self.device)
        self.vae.to(memory_format=torch.channels_last)
        self.networks = JointNetworks()
        self.networks.take(states)
        if plan.editor_only:
            self.networks.keep_all_but_editor()
        self.networks.to(self.device)
        self.average = Average(self.networks, _AVERAGED)
        self.average.updates = self.done
        self.optimizers = joint_optimizers(self.networks, plan.rate, plan.drawing)
        self.generator = torch.Generator(self.device).manual_seed(1000 * plan.seed + self.done)
        limits = dict(
            zip(KINDS, (plan.scenes, plan.scenes // 20, plan.edits, plan.pairs), strict=True)
        )
        self.pools = {kind: LessonPool(limit, self.device) for kind, limit in limits.items()}
        self._recall()
        self.layers = Layers()
        if plan.compiled and self.device.type == "cuda":
            self.layers = Layers(
                torch.compile(text_layer),
                torch.compile(joint_block),
                torch.compile(vision_block),
            )
            self.vae.encode = torch.compile(self.vae.encode)

    # Lessons

    def _take(self, kind: str, chunk: dict[str, Tensor]) -> None:
        pixels = chunk.pop("pixels")
        # Two sizes are drawn in one pool: their latents are as many, side by side.
        pool = self.pools[kind]
        if pool.full or (kind == "odd" and pixels.shape[2] > pixels.shape[3]):
            return
        pictures = list(pixels.unbind(1))
        for place, one in enumerate(pictures):
            chunk[f"latents {place}"] = self.encoded(one).half()
        if kind != "odd":
            for place, one in enumerate(pictures if kind == "scene" else pictures[:-1]):
                chunk[f"seen {place}"] = shrunk(one)
        pool.add(chunk)

    def gather(self) -> None:
        """Wait for the first lessons of every kind but odd sizes."""
        need = {"edit": self.plan.edit_batch, "pair": self._pairs}
        if not self.plan.editor_only:
            need["scene"] = max(self.plan.draw_batch, self.plan.talk_batch)
        while any(
            pool.count < min(need.get(kind, 0), pool.limit) for kind, pool in self.pools.items()
        ):
            self._take(*self.renderers.wait(self.device))
        self.say(f"lessons {self.counts}")

    @property
    def counts(self) -> dict[str, int]:
        """How many lessons of each kind there are."""
        return {kind: pool.count for kind, pool in self.pools.items()}

    @property
    def _pairs(self) -> int:
        # As many pictures as in a step with one each: the vision tower is compiled once.
        talks = 0 if self.plan.editor_only else self.plan.talk_batch
        return (self.plan.edit_batch + talks) // 2

    # Steps

    def losses(self, step: int) -> dict[str, Tensor]:
        """Return a step's losses by name, and the share of answers that were right."""
        plan, generator = self.plan, self.generator
        paired = step % _PAIRS_EVERY == _PAIRS_EVERY - 1 and self.pools["pair"].count > 0
        if plan.editor_only:
            return self._paired() if paired else self._edited()
        found: dict[str, Tensor] = {}
        odd = self.pools["odd"]
        turn = step % _ODD_EVERY == _ODD_EVERY - 1 and odd.count >= plan.draw_batch
        drawn = (odd if turn else self.pools["scene"]).draw(plan.draw_batch, generator)
        found["draw"] = drawing_loss(
            self.networks, drawn["latents 0"].float(), drawn["ids"].long(), drawn["counts"],
            self.layers, generator,
        )  # fmt: skip
        if paired:
            return found | self._paired()
        edits = self.pools["edit"].draw(plan.edit_batch, generator)
        talks = self.pools["scene"].draw(plan.talk_batch, generator)
        alone = self.pools["scene"].draw(plan.talk_batch // 2, generator)
        # One pass of the vision tower and one of the language model for all that has a picture.
        seen = torch.cat([edits["seen 0"], talks["seen 0"]])
        rows = seen_states(self.networks, seen, self.layers)
        asked = without_instructions(edits["ids"].long(), generator)
        said, said_alone = talks["about"].long(), alone["alone"].long()
        none = rows.new_zeros(len(said_alone), *rows.shape[1:])
        ids = torch.cat([asked, said, said_alone])
        states = read_states(self.networks, ids, torch.cat([rows, none]), self.layers)
        parts = states.split([len(asked), len(said), len(said_alone)])
        found["edit"] = editing_loss(
            self.networks, edits["latents 1"].float(), [edits["latents 0"].float()], parts[0],
            asked, self.layers, generator,
        )  # fmt: skip
        found["about"], found["about right"] = writing_loss(
            self.networks, parts[1], said, talks["about from"]
        )
        found["alone"], found["alone right"] = writing_loss(
            self.networks, parts[2], said_alone, alone["alone from"]
        )
        return found

    def _edited(self) -> dict[str, Tensor]:
        edits = self.pools["edit"].draw(self.plan.edit_batch, self.generator)
        rows = seen_states(self.networks, edits["seen 0"], self.layers)
        asked = without_instructions(edits["ids"].long(), self.generator)
        states = read_states(self.networks, asked, rows, self.layers)
        loss = editing_loss(
            self.networks, edits["latents 1"].float(), [edits["latents 0"].float()], states,
            asked, self.layers, self.generator,
        )  # fmt: skip
        return {"edit": loss}

    def _paired(self) -> dict[str, Tensor]:
        pairs = self.pools["pair"].draw(self._pairs, self.generator)
        seen = torch.stack([pairs["seen 0"], pairs["seen 1"]], 1)
        rows = seen_states(self.networks, seen.flatten(0, 1), self.layers)
        ids = without_instructions(pairs["ids"].long(), self.generator)
        states = read_states(
            self.networks, ids, rows.unflatten(0, (-1, 2)).flatten(1, 2), self.layers
        )
        references = [pairs[f"latents {place}"].float() for place in (0, 1)]
        target = pairs["latents 2"].float()
        loss = editing_loss(
            self.networks, target, references, states, ids, self.layers, self.generator
        )
        return {"pair": loss}

    def _rate(self, step: int, progress: float) -> float:
        plan = self.plan
        end = min(1.0, (1 - progress) / plan.anneal) if plan.anneal else 1.0
        return min(1.0, (step + 1) / plan.warm_up) * end

    def train(self) -> None:
        """Step until the plan's steps or seconds are over, and save now and then."""
        plan = self.plan
        self.gather()
        started = since = time.perf_counter()
        seconds = plan.total - self.elapsed - _LAST_SAVE if plan.total else plan.seconds
        bases = [[group["lr"] for group in one.param_groups] for one in self.optimizers]
        parameters = list(self.networks.parameters())
        step, shown, progress, saved = 0, 0, 0.0, self.elapsed
        latest: dict[str, Tensor] = {}
        while progress < 1:
            if not all(pool.full for pool in self.pools.values()):
                for chunk in self.renderers.ready(plan.chunks, self.device):
                    self._take(*chunk)
            with self.precision():
                found = self.losses(step)
            latest |= {name: value.detach() for name, value in found.items()}
            talk = plan.talking * (found.get("about", 0.0) + found.get("alone", 0.0))
            parts = (found.get(name, 0.0) for name in ("draw", "edit", "pair"))
            total = sum(parts, start=talk)
            assert isinstance(total, Tensor)
            total.backward()
            nn.utils.clip_grad_norm_(parameters, _CLIP, foreach=True)
            factor = self._rate(step, progress)
            for optimizer, base in zip(self.optimizers, bases, strict=True):
                for group, one in zip(optimizer.param_groups, base, strict=True):
                    group["lr"] = one * factor
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            self.average.update()
            step += 1
            now = time.perf_counter()
            progress = step / plan.steps if plan.steps else (now - started) / seconds
            if step % _LOGGED == 0 or step in {1, 5, 20} or progress >= 1:
                speed, since, shown = (step - shown) / (now - since), now, step
                self._log(self.done + step, latest, speed, factor)
            if self.elapsed - saved > plan.save_seconds:
                self.save(self.done + step)
                saved = self.elapsed
        for optimizer, base in zip(self.optimizers, bases, strict=True):
            for group, one in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = one
        self.done += step
        self.save(self.done)

    def _log(self, step: int, latest: dict[str, Tensor], speed: float, factor: float) -> None:
        values = {name: round(float(value), 4) for name, value in latest.items()}
        self.curves["joint"].append((step, values))
        said = " ".join(f"{name} {value:.4f}" for name, value in values.items())
        self.say(f"{step} {said} {speed:.2f} steps/s x{factor:.3f}")
        if any(value != value for value in values.values()):  # noqa: PLR0124 - not a number
            raise FloatingPointError("a loss is not a number")

    # Files

    def save(self, step: int) -> None:
        """Write the averaged weights, the curves and samples, and the state where it is kept."""
        out = self.plan.out
        averaged = JointNetworks().to(self.device)
        self.average.write_to(averaged)
        files = write_parts({**averaged.trained(), **self.vae_states}, out, "average")
        self.curves["lessons"] = self.counts
        report.write_curves(self.curves, out / "curves.json")
        if self.plan.state is not None:
            torch.save(self._state(step), self.plan.state / "joint.partial")
            (self.plan.state / "joint.partial").replace(self.plan.state / "joint.pt")
        size = sum(file.stat().st_size for file in files)
        self.say(f"saved at {step}, {size} bytes of weights, lessons {self.counts}")
        if self.plan.sheets:
            with self.precision():
                write_samples(self, averaged, out)

    def _state(self, step: int) -> dict[str, Any]:
        return {
            "networks": self.networks.state_dict(),
            "average": self.average.values,
            "optimizers": [one.state_dict() for one in self.optimizers],
            "curves": self.curves,
            "done": step,
        }

    def _recall(self) -> None:
        """Take the whole state that an earlier run on this machine kept, where there is one."""
        file = None if self.plan.state is None else self.plan.state / "joint.pt"
        if file is None or not file.exists():
            return
        kept = torch.load(file, map_location=self.device, weights_only=True)
        self.networks.load_state_dict(kept["networks"])
        for value, old in zip(self.average.values, kept["average"], strict=True):
            value.copy_(old)
        for optimizer, state in zip(self.optimizers, kept["optimizers"], strict=True):
            rates = [group["lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(state)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        self.curves, self.done = kept["curves"], kept["done"]
        self.average.updates = self.done
        self.generator.manual_seed(1000 * self.plan.seed + self.done)

    def _read_curves(self) -> None:
        assert self.plan.resume is not None
        self.curves = report.read_curves(self.plan.resume / "curves.json")
        self.done = max((step for step, _ in self.curves["joint"]), default=0)


def run_joint(plan: JointPlan) -> None:
    """Train as `plan` says."""
    run = JointRun(plan)
    try:
        run.train()
    finally:
        run.renderers.close()
