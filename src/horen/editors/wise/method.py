"""WISE as a method of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config import resolve_layer
from horen.editors.common.gated import GatedMethod
from horen.editors.common.samples import plain_samples
from horen.editors.wise.adapter import WiseAdapter, needs_down_projection
from horen.editors.wise.config import WiseConfig
from horen.editors.wise.memory import Side, subspace
from horen.editors.wise.training import Lessons, Scale, passages, scale_of, train
from horen.edits import Edit
from horen.model.devices import device_of
from horen.model.layout import Layout
from horen.model.prompts import PromptReader


class Wise(GatedMethod[Side]):
    """WISE, a dual parametric memory (Wang et al. 2024, arXiv 2405.14768).

    A copy W′ of the weights W of one layer's down projection is edited in place of W. With A(x) the projection's input:

        Δ_act(x) = ‖A(x) (W′ − W)‖₂,   output = A(x) W′ if Δ_act(x) ≥ ε, else A(x) W                    (3, 6)
        L_a = max(0, Δ_act(x_i) − α) + max(0, β − Δ_act(x_e)) + max(0, γ − (Δ_act(x_e) − Δ_act(x_i)))   (5)
        W′_i ← W′_i − η M_i ⊙ ∇(−log P(y_e | x_e) + L_a),   W′ ← W + Ties({W′_i − W})                    (7, 8)

    with edits x_e and irrelevant prompts x_i, and a random mask M_i of density ρ for each of k shards. ε is the
    smallest Δ_act of the edits so far, each taken as it was written. What the paper leaves open is chosen so: A(x) of
    a prompt is the mean over its tokens, and a prompt's route holds for all its tokens and those of the answer.
    Between two merges what the shards have so far is merged for answering. Once k shards are full they are merged for
    good, and the next ones are copies of that memory (WISE-Merge), so that what they change is merged relative to it,
    or of W (WISE-Retrieve, where the memory with the greatest Δ_act answers).

    Args:
        model: a decoder-only transformers model; the layer has one down projection.
        tokenizer: the model's own, a fast one.
        config: the settings; None for the default preset.
        seed: of the masks.

    Raises:
        ModelError: when the model is wrapped already, or the layer's MLP is a mixture of experts.
        ConfigError: when the settings name a layer that the model does not have.
    """

    name = "wise"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: WiseConfig | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.config = config or WiseConfig()
        layout = Layout.of(model)
        layer = resolve_layer(self.config.layer, len(layout.layers), "layer")
        down = needs_down_projection(layout.down_projection(layer), layer)
        reader = PromptReader(tokenizer, words_only=False)
        self._wise = WiseAdapter(model, reader, self.config.sites(layer), down)
        super().__init__(model, tokenizer, self.config, self._wise, seed)
        self._scale: Scale | None = None

    def _trained(self, edits: Sequence[Edit]) -> Side:
        config, device = self.config, device_of(self.model)
        with self._wise.disabled():
            (size,) = self._wise.reads.sizes
        shape = (self._wise.layout.hidden_size, size)
        side = self._wise.placed(device) or Side(config.retrieve, config.density, config.threshold_share)
        left = list(edits)
        while left:
            side = side.with_room(config.shards, config.shard_edits, shape, device)
            count = min(config.batch_edits, config.shard_edits - side.filled)
            side, left = self._with(side, left[:count]), left[count:]
        return side

    def _with(self, side: Side, edits: Sequence[Edit]) -> Side:
        """Return the side memory with one batch of edits that its last shard has room for."""
        samples = plain_samples(self.contexts, edits, end=self.config.train_end)
        irrelevant = self._background(self.config.irrelevant, edits)
        if self._scale is None:
            self._scale = scale_of(self._wise, irrelevant, self.config)
        edited = self._features([sample.prompt for sample in samples])
        change = side.shards[-1]
        mask = subspace(change.shape, self.config.mask_ratio, self._seed, len(side.shards)).to(change.device)
        lessons = Lessons(passages(self._wise, samples, self.config), edited, irrelevant)
        trained = train(change, side.base, mask, lessons, self.config, self._scale)
        return side.written(trained, len(edits), edited)

    def _restored(self, tensors: Mapping[str, Tensor]) -> Side:
        config = self.config
        finished = sum(name.startswith("finished.") for name in tensors)
        shards = sum(name.startswith("shards.") for name in tensors)
        return Side(
            config.retrieve,
            config.density,
            config.threshold_share,
            tuple(tensors[f"finished.{number}"] for number in range(finished)),
            tuple(tensors[f"shards.{number}"] for number in range(shards)),
            int(tensors["filled"]),
            float(tensors["smallest"]),
        )
