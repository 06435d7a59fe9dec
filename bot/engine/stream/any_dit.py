"""DiffSynth's transformers of Qwen-Image and Qwen-Image-2.1 at any width."""

from __future__ import annotations

from diffsynth.models.general_modules import AdaLayerNorm, RMSNorm, TimestepEmbeddings
from diffsynth.models.qwen_image_21_dit import QwenImage21DiT
from diffsynth.models.qwen_image_dit import QwenEmbedRope, QwenImageDiT, QwenImageTransformerBlock
from torch import nn

from bot.engine.stream.layout import Geometry


def _axes(head: int) -> list[int]:
    """Return the numbers of a head that each axis turns: frame, height, width."""
    return [head // 8, head * 7 // 16, head * 7 // 16]


class AnyDiT(QwenImageDiT):
    """`QwenImageDiT` of the given widths; at `FULL` it is the same network."""

    def __init__(self, geometry: Geometry, text: int, *, blocks: bool = True) -> None:
        nn.Module.__init__(self)
        dim, head = geometry.dim, geometry.head_dim
        axes = _axes(head)
        self.pos_embed = QwenEmbedRope(theta=10000, axes_dim=axes, scale_rope=True)
        self.time_text_embed = TimestepEmbeddings(
            256, dim, diffusers_compatible_format=True, scale=1000, align_dtype_to_timestep=False
        )
        self.txt_norm = RMSNorm(text, eps=1e-6)
        self.img_in = nn.Linear(64, dim)
        self.txt_in = nn.Linear(text, dim)
        self.transformer_blocks = nn.ModuleList(
            QwenImageTransformerBlock(
                dim=dim, num_attention_heads=geometry.heads, attention_head_dim=head
            )
            for _ in range(geometry.layers if blocks else 0)
        )
        self.norm_out = AdaLayerNorm(dim, single=True)
        self.proj_out = nn.Linear(dim, 64)


def any_single_dit(geometry: Geometry, text: int, *, blocks: bool = True) -> QwenImage21DiT:
    """Return Qwen-Image-2.1's transformer of the given widths; `text` is a token's."""
    frame, height, width = _axes(geometry.head_dim)
    return QwenImage21DiT(
        num_layers=geometry.layers if blocks else 0,
        attention_head_dim=geometry.head_dim,
        num_attention_heads=geometry.heads,
        context_in_dim=text,
        axes_dims_rope=(frame, height, width),
    )
