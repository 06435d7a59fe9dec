"""One run of training: first the VAE, then the transformer with its text encoder.

Every replica (one per GPU) draws its own scenes; only gradients and the clock are shared, so that
all replicas end a phase at the same step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, distributed, nn

from bot.lab.tiny.train import report
from bot.lab.tiny.train.autoencoder import normalise, vae_loss
from bot.lab.tiny.train.base import Run
from bot.lab.tiny.train.data import SIZES, SQUARE, Chunk, Pool, Renderers, to_network
from bot.lab.tiny.train.flow import flow_loss, joint_block, sample, text_layer
from bot.lab.tiny.train.networks import Painter, take_stored, trained_vae
from bot.lab.tiny.train.optimizers import Average, painter_optimizers
from bot.lab.tiny.train.plan import Plan
from bot.lab.tiny.train.store import read_parts, write_parts

_ENCODED: Final = 256
_CHUNKS_A_STEP: Final = 6
_ENCODED_A_STEP: Final = 2
"""Chunks: encoding more of them would take longer than the transformer's step."""
_ODD_EVERY: Final = 8
"""Every eighth batch has a size other than 256x256, once there are such scenes."""
_CLIP: Final = 1.0
_CROPPED: Final = 0.8
AVERAGED: Final = 0.998
_LOGGED: Final = 50


class Replica(Run):
    """One process of a run. Start it before CUDA is touched: its renderers are forked."""

    def __init__(self, plan: Plan, rank: int) -> None:
        started = time.perf_counter()
        self.plan = plan
        seed = f"{plan.seed} {rank} {plan.resume is not None}"
        self.renderers = Renderers(seed, plan.workers, plan.odd_share, plan.style)
        super().__init__(plan.device, since=started, half=plan.half, recompiles=32, rank=rank)
        cuda = self.device.type == "cuda"
        self.compiled = plan.compiled and cuda
        if plan.replicas > 1:
            distributed.init_process_group(
                "nccl" if cuda else "gloo",
                init_method="tcp://127.0.0.1:29517",
                rank=rank,
                world_size=plan.replicas,
            )
        torch.manual_seed(plan.seed)
        self.vae = trained_vae().to(self.device)
        self.vae.to(memory_format=torch.channels_last)
        self.painter = Painter().to(self.device)
        self.average = Average(self.painter, AVERAGED)
        self.generator = torch.Generator(self.device).manual_seed(1000 * plan.seed + rank)
        self.latents = {size: self._pool(size) for size in SIZES}
        self.pixels = Pool(plan.pixels, self.device)
        self.curves: dict[str, Any] = {"vae": [], "transformer": []}
        self.done = 0
        self._shown = 0.0

    def _pool(self, size: tuple[int, int]) -> Pool:
        plan = self.plan
        odd = plan.scenes // 20 if plan.odd_share else 0
        return Pool(plan.scenes if size == SQUARE else odd, self.device)

    # Steps

    def _share(self, gradients: Iterable[Tensor], elapsed: float) -> float:
        """Average gradients, in place, and the clock over all replicas; return the clock."""
        if self.plan.replicas == 1:
            return elapsed
        tensors = [*gradients, torch.tensor([elapsed], device=self.device)]
        flat = torch.cat([t.flatten() for t in tensors])
        distributed.all_reduce(flat)
        flat /= self.plan.replicas
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))
        return float(tensors[-1])

    def _phase(
        self,
        name: str,
        module: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        span: tuple[int, float],
        rate: Callable[[int, float], float],
        loss: Callable[[int, float], Tensor],
        after: Callable[[int], None],
    ) -> None:
        """Step until `span` (steps, else seconds) is over. `rate` is a factor on each rate."""
        steps, seconds = span
        started, step, shown, progress = time.perf_counter(), 0, 0, 0.0
        since = started
        bases = [[group["lr"] for group in one.param_groups] for one in optimizers]
        parameters = list(module.parameters())
        while progress < 1:
            value = loss(step, progress)
            value.backward()
            gradients = [p.grad for p in parameters if p.grad is not None]
            elapsed = self._share(gradients, time.perf_counter() - started)
            nn.utils.clip_grad_norm_(parameters, _CLIP, foreach=True)
            factor = rate(step, progress)
            for optimizer, base in zip(optimizers, bases, strict=True):
                for group, one in zip(optimizer.param_groups, base, strict=True):
                    group["lr"] = one * factor
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            step += 1
            progress = step / steps if steps else elapsed / seconds
            after(step)
            if step % _LOGGED == 0 or progress >= 1:
                now, number = time.perf_counter(), float(value.detach())
                speed, since, shown = (step - shown) / (now - since), now, step
                self.curves[name].append((self.done + step, number))
                self.say(f"{name} {step} loss {number:.4f} {speed:.2f} steps/s x{factor:.3f}")
                if number != number:  # noqa: PLR0124 - not a number
                    raise FloatingPointError(f"the {name}'s loss is not a number")
        for optimizer, base in zip(optimizers, bases, strict=True):
            for group, one in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = one

    # The VAE

    def train_vae(self) -> None:
        """Train the VAE on pixels as they are drawn, then bring its latents to deviation 1."""
        plan = self.plan
        while self.pixels.count < plan.vae_batch:
            self._take_pixels(self.renderers.wait(self.device))
        crop = plan.vae_crop
        optimizer = torch.optim.AdamW(
            self.vae.parameters(), lr=plan.vae_rate, betas=(0.9, 0.95), weight_decay=0.0
        )

        def loss(_: int, progress: float) -> Tensor:
            for chunk in self.renderers.ready(_CHUNKS_A_STEP, self.device):
                self._take_pixels(chunk)
            values = self.pixels.draw(plan.vae_batch, self.generator)[0]
            if progress < _CROPPED:
                top, left = (int(x) for x in torch.randint(SQUARE[0] - crop + 1, (2,)))
                values = values[:, top : top + crop, left : left + crop]
            pictures = to_network(values).to(memory_format=torch.channels_last)
            with self.precision():
                return vae_loss(self.vae, pictures, self.generator)

        def rate(step: int, progress: float) -> float:
            return min(1.0, (step + 1) / 100) * min(1.0, (1 - progress) / 0.7)

        span = (plan.vae_steps, plan.vae_seconds)
        self._phase("vae", self.vae, [optimizer], span, rate, loss, lambda _: None)
        values = self.pixels.draw(min(2048, self.pixels.count), self.generator)[0]
        self._broadcast(self.vae)
        normalise(self.vae, torch.cat([self.encoded(part) for part in values.split(_ENCODED)]))
        self._broadcast(self.vae)
        self._check_vae(values[:16])

    @torch.no_grad()
    def _broadcast(self, module: nn.Module) -> None:
        """Give all replicas the first one's parameters: the normalisation saw its own scenes."""
        if self.plan.replicas > 1:
            for parameter in module.parameters():
                distributed.broadcast(parameter.data, 0)

    def _check_vae(self, values: Tensor) -> None:
        latents = self.encoded(values)
        decoded = self.decoded(latents).clamp(-1, 1)
        error = (decoded - to_network(values)).square().mean((1, 2, 3))
        psnr = float((4 / error).log10().mean() * 10)
        self.curves["vae_psnr"] = psnr
        self.say(
            f"vae PSNR {psnr:.1f} dB, latents {float(latents.mean()):.3f} "
            f"+- {float(latents.std()):.3f}, {self.pixels.count} scenes"
        )
        if self.rank == 0:
            pairs = torch.cat([to_network(values[:8]), decoded[:8]])
            report.sheet(pairs, 8).save(self.plan.out / "vae.png")

    def _take_pixels(self, chunk: Chunk) -> None:
        if chunk.size == SQUARE:
            self.pixels.add(chunk.pixels, chunk.ids, chunk.counts)

    # The transformer

    def _take_latents(self, chunk: Chunk) -> None:
        pool = self.latents[chunk.size]
        if not pool.full:
            encoded = self.encoded(chunk.pixels).half()
            pool.add(encoded.contiguous(), chunk.ids, chunk.counts)

    def _encode_pixels(self) -> None:
        """Turn what the VAE was trained on into latents, and let the pixels go."""
        pool = self.pixels
        for start in range(0, pool.count, _ENCODED):
            part = slice(start, min(start + _ENCODED, pool.count))
            encoded = self.encoded(pool.values[part]).half().contiguous()
            self.latents[SQUARE].add(encoded, pool.ids[part], pool.counts[part])
        self.pixels = Pool(1, self.device)

    def train_painter(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Train the transformer and the text encoder on latents, more of them as they are drawn."""
        plan = self.plan
        self._encode_pixels()
        square = self.latents[SQUARE]
        while square.count < min(plan.scenes, 8 * plan.batch):
            self._take_latents(self.renderers.wait(self.device))
        self.say(f"{square.count} latents")
        layers = (text_layer, joint_block)
        if self.compiled:
            layers = (torch.compile(text_layer), torch.compile(joint_block))
        closed = False

        def loss(step: int, _: float) -> Tensor:
            nonlocal closed
            if not closed:
                for chunk in self.renderers.ready(_ENCODED_A_STEP, self.device):
                    self._take_latents(chunk)
                if all(pool.full for pool in self.latents.values()):
                    self.renderers.close()
                    closed = True
            latents, ids, counts = self._pool_of(step).draw(plan.batch, self.generator)
            with self.precision():
                return flow_loss(self.painter, latents.float(), ids, counts, layers, self.generator)

        def rate(step: int, progress: float) -> float:
            end = min(1.0, (1 - progress) / plan.anneal) if plan.anneal else 1.0
            return min(1.0, (step + 1) / plan.warm_up) * end

        def after(step: int) -> None:
            self.average.update()
            if self.rank == 0 and self.elapsed - self._shown > plan.sheet_seconds:
                self._shown = self.elapsed
                self.save(step)

        span = (plan.steps, plan.seconds)
        self._phase("transformer", self.painter, optimizers, span, rate, loss, after)
        if self.rank == 0:
            self.save(0)

    def _pool_of(self, step: int) -> Pool:
        turn, odd = divmod(step, _ODD_EVERY)
        pool = self.latents[SIZES[1 + turn % (len(SIZES) - 1)]]
        if odd != _ODD_EVERY - 1 or pool.count < self.plan.batch or not self.plan.odd_share:
            return self.latents[SQUARE]
        return pool

    def save(self, step: int) -> None:
        """Write both sets of weights, the curves and a sheet of samples."""
        out = self.plan.out
        averaged = Painter().to(self.device)
        self.average.write_to(averaged)
        states: dict[str, Tensor] = {**averaged.trained()}
        states |= {f"vae.{name}": value for name, value in self.vae.named_parameters()}
        write_parts(states, out, "average")
        write_parts(self.painter.trained(), out, "latest")
        scenes = {f"{w}x{h}": pool.count for (w, h), pool in self.latents.items()}
        self.curves["scenes"] = scenes
        report.write_curves(self.curves, out / "curves.json")
        with self.precision():
            latents = sample(averaged, list(report.SAMPLES), seed=1)
        report.sheet(self.decoded(latents)).save(out / "samples.png")
        self.say(f"saved at {self.done + step}, scenes {scenes}")

    # Resuming

    def resume(self, folder: Path) -> None:
        """Take weights and curves from the small files of an earlier run."""
        states = read_parts(folder, "average")
        vae = {k.removeprefix("vae."): v for k, v in states.items() if k.startswith("vae.")}
        self.vae.load_state_dict(vae)
        take_stored(self.painter, states)
        self.average = Average(self.painter, AVERAGED)
        take_stored(self.painter, read_parts(folder, "latest"))
        self.curves = report.read_curves(folder / "curves.json")
        self.done = max((step for step, _ in self.curves["transformer"]), default=0)
        self.average.updates = self.done

    @property
    def state_file(self) -> Path:
        """Where `keep` writes."""
        assert self.plan.state is not None
        return self.plan.state / f"replica{self.rank}.pt"

    def keep(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Write the whole state, latents included."""
        torch.save(
            {
                "vae": self.vae.state_dict(),
                "painter": self.painter.state_dict(),
                "average": (self.average.values, self.average.updates),
                "optimizers": [one.state_dict() for one in optimizers],
                "pools": {
                    size: (p.values[: p.count], p.ids[: p.count], p.counts[: p.count])
                    for size, p in self.latents.items()
                },
                "curves": self.curves,
            },
            self.state_file,
        )

    def recall(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Take the whole state that `keep` wrote."""
        kept = torch.load(self.state_file, map_location=self.device, weights_only=True)
        self.vae.load_state_dict(kept["vae"])
        self.painter.load_state_dict(kept["painter"])
        for value, old in zip(self.average.values, kept["average"][0], strict=True):
            value.copy_(old)
        self.average.updates = kept["average"][1]
        for optimizer, state in zip(optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        for size, parts in kept["pools"].items():
            if len(parts[0]):
                self.latents[size].add(*parts)
        self.curves = kept["curves"]
        self.done = max((step for step, _ in self.curves["transformer"]), default=0)


def run_replica(rank: int, plan: Plan) -> None:
    """Train as `plan` says, as replica `rank`."""
    replica = Replica(plan, rank)
    try:
        optimizers = painter_optimizers(replica.painter, plan.rate)
        if plan.state is not None and replica.state_file.exists():
            replica.recall(optimizers)  # its latents are those of its VAE
        else:
            if plan.resume is not None:
                replica.resume(plan.resume)
            if plan.vae_steps or plan.vae_seconds:
                replica.train_vae()
        replica.train_painter(optimizers)
        if plan.state is not None:
            replica.keep(optimizers)
    finally:
        replica.renderers.close()
        if plan.replicas > 1:
            distributed.destroy_process_group()
