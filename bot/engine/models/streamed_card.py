"""A streamed family's networks at full size: its files made into networks within a budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from bot.catalogue.models import find_model
from bot.engine.card_budget import CardBudget
from bot.engine.child.references import SizesOf
from bot.engine.files.content import cache_digest, files_digest
from bot.engine.files.find import (
    AUTO,
    COMPILED_FOLDER,
    as_stored,
    cache_folder,
    cache_indexes,
    cached_precision,
    ensure,
    unreadable,
)
from bot.engine.files.model_files import ModelFiles
from bot.engine.models.shelf import Content, NetworkShelf, Recipe
from bot.engine.models.streamed_networks import Networks, precision_of
from bot.engine.models.vram import require_gpu, take_budget
from bot.engine.options import EngineOptions, LoadProgress
from bot.engine.stream import budget as budgets
from bot.engine.stream.compiling import KernelSet
from bot.engine.stream.decode import PictureCodec, working_bytes
from bot.engine.stream.device import Device, open_device
from bot.engine.stream.encoder_parts import load_writer
from bot.engine.stream.layout import Precision
from bot.engine.stream.loading import load_text_encoder, load_transformer
from bot.engine.stream.offload import (
    OffloadableCodec,
    OffloadableEmbedder,
    OffloadableTransformer,
)
from bot.engine.stream.precision_choice import choose_for
from bot.engine.stream.prompts import Places, PromptEmbedder, Read, ReadEdit, behind_target
from bot.engine.stream.prompts_edit import read_edit
from bot.engine.stream.published import Sources
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.text_layout import TextFamily
from bot.engine.stream.transformer import StreamedDiT
from bot.engine.stream.transformer_kind import TransformerKind
from bot.engine.stream.vae_kind import QWEN_IMAGE_VAE, VaeKind
from bot.engine.stream.vision_loading import load_vision
from bot.engine.stream.warming import warm_up
from bot.words import mark

log = logging.getLogger(__name__)

USUAL_TEXT_TOKENS: Final = 1024
"""Two prompts of about a page each; longer ones use up room of the activations."""

_USUAL_REFERENCE: Final = (1024, 1024)


@dataclass(frozen=True, slots=True)
class StreamedFamily:
    """What a family's networks are made with.

    `text_config` returns the language model's configuration, `vae` the codec of its files in a
    type on a device, `tokenizer` what `read` is given. `vision` returns the vision tower's
    configuration where the encoder has one that may be used. Prompts may have pictures in the sizes
    of `references`; the transformer leaves room for `pictures` of them in the text encoder, and
    makes more where there are more. `edits`: the usual picture is drawn after another. `read_edit`
    and `places` are as `PromptEmbedder` has them.
    """

    transformer: TransformerKind
    text: TextFamily
    text_config: Callable[[], Any]
    vae: Callable[[Sources, Device, torch.dtype], PictureCodec]
    tokenizer: Callable[[ModelFiles], Any]
    read: Read
    vision: Callable[[], Any] | None = None
    pictures: int = 0
    references: SizesOf | None = None
    edits: bool = False
    read_edit: ReadEdit = read_edit
    places: Places = behind_target


def load_on_card(
    model: str,
    options: EngineOptions,
    progress: LoadProgress,
    shelf: NetworkShelf,
    family: StreamedFamily,
) -> Networks:
    """Build the networks on the first CUDA GPU, of what is on the `shelf` and the model's files.

    Raises `EngineError` (`LOAD_FAILED`) without such a GPU or without the model's files.
    """
    require_gpu()
    networks = assemble(
        model, options, progress, shelf, family, partial(take_budget, options), "cuda"
    )
    networks.device_name = torch.cuda.get_device_name()
    networks.measure = partial(take_budget, options)
    return networks


def assemble(
    model: str,
    options: EngineOptions,
    progress: LoadProgress,
    shelf: NetworkShelf,
    family: StreamedFamily,
    measure: Callable[[], CardBudget],
    device_name: str = "cuda",
) -> Networks:
    """Load the networks for a device, from and to the model's weights cache.

    `measure` says how much of the device they may take. A model that waits on the `shelf` needs no
    file. Raises `EngineError` (`LOAD_FAILED`) where one is missing, damaged or another model's.
    """
    recipe, loader = shelf.recipe(model), None
    if recipe is None:
        loader = _Loader(model, options, progress, shelf, family, device_name)
        recipe = loader.recipe()
    shelf.settle(recipe)
    if loader is None:
        progress(mark("bringing the model back from main memory"), None)
    budget = measure()
    transformer, text, vae = recipe
    # The small ones first: the transformer takes what they leave.
    codec: PictureCodec = shelf.take(vae, budget) or _asked(loader).codec(vae)
    embedder: PromptEmbedder | None = shelf.take(text, budget)
    if embedder is None:
        embedder, text = _asked(loader).embedder()
    if family.vision is not None and family.pictures and embedder.encoder.vision is None:
        # The encoder may be there of a model that looks at no pictures.
        loader = loader or _Loader(model, options, progress, shelf, family, device_name)
        loader.vision(embedder, family.vision())
    dit: StreamedDiT = shelf.take(transformer, budget) or _asked(loader).transformer(
        transformer, codec, embedder, budget
    )
    shelf.note(model, (transformer, text, vae))
    codec.give_way = dit.residency.give_way
    networks = Networks(
        dit, embedder, codec, device_name, budget=budget, references=family.references
    )

    def have_writer(progress: LoadProgress, pictures: bool) -> None:
        blind = pictures and family.vision is not None and embedder.encoder.vision is None
        if not blind and embedder.writer is not None:
            return
        late = _Loader(model, options, progress, shelf, family, device_name)
        if blind and family.vision is not None:
            late.vision(embedder, family.vision())
        if embedder.writer is None:
            late.writer(embedder)

    networks.load_writer = have_writer
    return networks


def _asked(loader: _Loader | None) -> _Loader:
    assert loader is not None, "all of a model that needs no file is on the shelf"
    return loader


class _Loader:
    """Loads what of a model is not on the shelf, from its files, and puts it there."""

    def __init__(
        self,
        model: str,
        options: EngineOptions,
        progress: LoadProgress,
        shelf: NetworkShelf,
        family: StreamedFamily,
        device_name: str,
    ) -> None:
        self._model = model
        self._options = options
        self._progress = progress
        self._shelf = shelf
        self._family = family
        self._device = open_device(device_name)
        self._device_name = device_name
        root = options.model_path
        self._stored = cached_precision(root, model, "stream", options.precision)
        self._files = ensure(
            root,
            progress,
            repository=model,
            source=options.model_source,
            precision=self._stored,
        )
        self._indexes = cache_indexes(root, model, self._stored)
        self._cache = cache_folder(root, model, options.precision)
        owner = self._files.owners["text encoder"]
        self._text_cache = cache_folder(root, owner, self._stored or options.precision)
        self._precision = precision_of(as_stored(root, model, options.precision))
        if options.precision == AUTO and self._precision is Precision.FP8:
            log.info(
                "%s goes on in FP8, whose weights cache is all that is left of its files. With its "
                "files again (python -m bot download, or IMAGE_PRECISION=int8) it is nearer to the "
                "model, and on most cards faster.",
                model,
            )
        shelf.kernels = shelf.kernels or KernelSet()

    def recipe(self) -> Recipe:
        """Return what the model is made of, as far as that is known before it is loaded."""
        transformer = Content("transformer", self._model)
        vae = Content("VAE", f"{find_model(self._model).family} {_digest(self._files.vae)}")
        return transformer, self._text(), vae

    def codec(self, content: Content) -> PictureCodec:
        """Load the VAE."""
        made = self._family.vae(Sources(self._files.vae), self._device, torch.bfloat16)
        self._shelf.add(content, OffloadableCodec(made))
        return made

    def embedder(self) -> tuple[PromptEmbedder, Content]:
        """Load the text encoder; return what it is made of too, which is known by now."""
        encoder, _ = load_text_encoder(
            self._sources("text encoder", self._files.text_encoder),
            self._family.text_config(),
            self._device,
            torch.bfloat16,
            self._text_cache,
            self._progress,
            storage=self._precision.storage,
            family=self._family.text,
            room=self._shelf.make_room,
        )
        made = PromptEmbedder(
            self._family.tokenizer(self._files),
            encoder,
            model=f"{self._model} {self._precision}",
            read=self._family.read,
            read_edit=self._family.read_edit,
            places=self._family.places,
        )
        root = self._options.model_path
        self._indexes = cache_indexes(root, self._model, self._stored)
        content = self._text()
        self._shelf.add(content, OffloadableEmbedder(made))
        return made, content

    def vision(self, embedder: PromptEmbedder, config: Any) -> None:
        """Load the text encoder's vision tower."""
        load_vision(
            embedder.encoder,
            self._sources("text encoder", self._files.text_encoder),
            config,
            self._text_cache,
            self._progress,
            room=self._shelf.make_room,
        )

    def writer(self, embedder: PromptEmbedder) -> None:
        """Load the language head."""
        embedder.writer = load_writer(
            embedder.encoder,
            self._sources("text encoder", self._files.text_encoder),
            self._text_cache,
            self._progress,
            room=self._shelf.make_room,
        )

    def transformer(
        self, content: Content, codec: PictureCodec, embedder: PromptEmbedder, budget: CardBudget
    ) -> StreamedDiT:
        """Load the transformer within what the others leave of `budget`, and warm it up."""
        settings = transformer_settings(
            self._options,
            budget,
            others=codec.weight_bytes + embedder.encoder.small_bytes,
            encoding=embedder.encoder.working_bytes(USUAL_TEXT_TOKENS, self._family.pictures),
            vae=codec.kind,
            device=self._device_name,
            precision=self._precision,
            guided=is_guided(self._model),
            edits=self._family.edits,
            references=self._family.references,
        )

        def room(size: int) -> bool:
            whole = self._shelf.may_copy(size)
            self._shelf.make_room(size if whole else max(0, size - budget.bytes))
            return whole

        dit, _ = load_transformer(
            self._sources("transformer", self._files.transformer),
            settings,
            self._cache,
            self._progress,
            self._family.transformer,
            room=room,
            kernels=self._shelf.kernels,
        )
        if self._options.precision == AUTO and self._precision is Precision.INT8:
            self._progress(mark("trying 8-bit products on the card (once)"), None)
            choose_for(dit)
        if dit.execution.compiled and not dit.execution.kernels.ready:
            self._progress(mark("compiling the blocks (once; later starts use the cache)"), None)
            warm_up(dit)
        self._shelf.add(content, OffloadableTransformer(dit))
        return dit

    def _sources(self, part: str, files: Sequence[Path]) -> Sources:
        return Sources(files, self._indexes.get(part))

    def _text(self) -> Content:
        """Return what the text encoder is made of; where no cache tells, it is this model's own."""
        index, digest = self._indexes.get("text encoder"), None
        sources = self._sources("text encoder", self._files.text_encoder)
        if index is not None and index.fits(sources.published):
            digest = cache_digest(index)
        spec = find_model(self._model)
        assert spec.published is not None
        names = (self._files.words / name for name in spec.published.tokenizer_files)
        return Content("text encoder", f"{spec.family} {digest or self._model} {_digest(names)}")


def _digest(paths: Iterable[Path]) -> str:
    paths = tuple(paths)
    try:
        return files_digest(paths)
    except OSError as error:
        raise unreadable(Path(error.filename or paths[0]), error) from error


def is_guided(model: str) -> bool:
    """Whether pictures of the model's usual quality are drawn with guidance, in two branches."""
    spec = find_model(model)
    return spec.qualities[spec.default_quality].guidance != 1.0


def transformer_settings(
    options: EngineOptions,
    budget: CardBudget,
    *,
    others: int,
    encoding: int,
    vae: VaeKind = QWEN_IMAGE_VAE,
    device: str = "cuda",
    precision: Precision | None = None,
    guided: bool = True,
    edits: bool = False,
    references: SizesOf | None = None,
) -> TransformerSettings:
    """Return the settings of the transformer, in bfloat16.

    `others` are bytes of the card that the other networks take, `encoding` what the text encoder
    takes while it works. `precision` is that of the options where it is not given. `guided` says
    whether the model's usual picture has two branches, and `edits` whether it is drawn after
    another: it is planned and compiled for that. `references` are the family's.
    """
    dtype, usual = torch.bfloat16, budgets.Work(1344, 768)
    if not guided:
        usual = replace(usual, text_tokens=usual.text_tokens[:1])
    if edits:
        usual = replace(usual, references=(_USUAL_REFERENCE,))
    decoding = working_bytes(usual.width, usual.height, dtype.itemsize, tiled=True, kind=vae)
    return TransformerSettings(
        device=device,
        dtype=dtype,
        precision=precision_of(options.precision) if precision is None else precision,
        budget=budget.bytes,
        foreign=budget.held_by_others,
        compile=options.compile,
        cache=options.model_path / COMPILED_FOLDER,
        usual=usual,
        others=others,
        others_working=max(encoding, decoding),
        references=references,
    )
