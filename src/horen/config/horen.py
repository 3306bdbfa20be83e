"""Every setting of the editor: its meaning, unit, range and source, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from horen.config.settings import Settings, setting
from horen.config.sites import TEXT, parse_sites
from horen.errors import ConfigError

if TYPE_CHECKING:
    from horen.memory import Gate, KeyStorage, Storage

ENCODER = "all-minilm-l6-v2"
# What a folder had whose settings do not say.
_BEFORE_SCOPE = {
    "read_sites": "layer_output@0.04+auto@0.1",
    "key_space": "whitened",
    "threshold": 0.5,
    "similar_threshold": 0.6,
}

# Not said of keys that are stored so, for they were before it could be said.
_FLOAT_KEYS = {"key_storage": "float32"}

# Joined keys of two wordings of one fact are nearer than this.
_SHARED = 0.8

# What a setting decides, see ``decisions``.
_key, _stored, _gate, _value, _search, _similar, _recall = (
    partial(setting, decides=what) for what in ("key", "stored", "gate", "value", "search", "similar", "recall")
)


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """How values are trained, by whichever editor trains them; see :mod:`horen.editing.training`."""

    optimizer: str = _value(
        "normalized",
        "normalized: momentum over gradients of unit length (Cutkosky and Mehta 2020); adam: as published",
        choices=("normalized", "adam"),
    )
    learning_rate: float = _value(
        1.0, "root mean square of a step's coordinates, in units of learning_rate_unit", low=0, open_low=True
    )
    learning_rate_unit: str = _value(
        "site",
        "site: how large the output that is edited is, so that one setting fits every model: the root mean square of "
        "an MLP's, the median absolute value of a layer's; absolute: 1",
        choices=("site", "absolute"),
    )
    max_steps: int = _value(50, "most optimisation steps an edit may take", low=1)
    stop_probability: float = _value(
        0.98,
        "an edit has converged when every target token has at least this probability in every training context; "
        "1 never stops early",
        low=0,
        high=1,
        open_low=True,
    )
    train_end: bool = _value(True, "train the end token after the target, so that the answer ends where it should")
    precision: str = _value(
        "auto",
        "auto: optimise in the arithmetic that this machine is fastest at, its products timed once a process (the "
        "model's own, bfloat16 or int8), with the likely words told from all others, and check every value in the "
        "model's own, but for what comes before the prompt's last token; model: the model's own throughout",
        choices=("auto", "model"),
    )
    batch_tokens: int = _value(2048, "most target positions that are optimised at once", low=1)


@dataclass(frozen=True)
class HorenConfig(TrainingSettings):
    """Settings of one editor; immutable, and saved with every codebook.

    ``HorenConfig()`` is the ``default`` preset and ``HorenConfig.paper()`` the published recipe (arXiv 2605.08143).
    A layer is given as a depth in [0, 1] (0.8 of 30 layers is layer 24) so that one setting fits every model; an
    integer of at least 1 names a layer, counted from 0, and layer 0 is the depth 0.0.

    Raises:
        ConfigError: naming the field, what was given and what is allowed.
    """

    preset: str = setting("default", "name of the preset these settings started from")

    read_sites: str = _key(
        TEXT,
        "activations that make keys and queries, as site@layer, several joined by +; a site is mlp_input, mlp_hidden "
        "(before the down projection), mlp_output, layer_output, or auto: mlp_hidden where the MLP has one down "
        "projection, else mlp_input; or text alone: no activations, but the words' embedding by a text encoder",
    )
    encoder: str = _key(
        ENCODER,
        f"text encoder of read_sites=text: {ENCODER}, a folder in transformers' format, or, with the extra "
        "horen[encoder], a model of sentence-transformers; with key_space=auto the first, or a folder that "
        "horen scope wrote",
    )
    read_share: float = _key(
        1.0, "share p of the user's last tokens whose activations are pooled; 0 is the last alone", low=0, high=1
    )
    read_weight: str = _key(
        "rare",
        "how tokens count where activations are pooled: all equal, as published, or more the rarer they are in "
        "bundled prompts",
        choices=("equal", "rare"),
    )
    key_space: str = _key(
        "auto",
        "auto: of a text one key for who and one for what is asked, by the tuned encoder, and a judge of both; of "
        "activations as whitened; raw: k = f/‖f‖ as published; whitened: centred and decorrelated with the bundled "
        "prompt bank first",
        choices=("auto", "raw", "whitened"),
    )
    feature_power: float = _key(
        0.5,
        "the whitened space's features are raised to this power first, signs kept: below 1 large ones weigh less",
        low=0,
        high=1,
        open_low=True,
    )
    key_dimension: int = _key(512, "dimensions kept by the whitened key space", low=2)
    scope: str = _key(
        "words",
        "words: read the user's words, of a long text also its last sentences; all: read every token of the input",
        choices=("words", "all"),
    )

    key_storage: str = _stored(
        "int8",
        "type in which a key is stored, and from which every cosine is computed; int8: whole numbers from -127 to 127, "
        "divided by their length",
        choices=("float32", "int8"),
    )

    alpha: float = _gate(0.1, "damping α of a Hopfield step: 0 stays, 1 jumps to the read-out", low=0, high=1)
    beta: float = _gate(20.0, "inverse temperature β of the Hopfield softmax", low=0)
    steps: int = _gate(1, "most Hopfield steps T; 0 is plain nearest neighbour", low=0)
    epsilon: float = _gate(1e-5, "a query has arrived when its read-out is nearer than this", low=0)
    threshold: float = _gate(
        0.5,
        "τ: an edit fires when its score exceeds this: where a judge decides (read_sites=text, key_space=auto) a score "
        "from 0 to 1 for that the prompt asks for its fact, else a cosine less its hubness correction",
        low=-1,
        high=1,
    )
    contrast: float = _gate(
        0.4,
        "γ, weight of the hubness correction: a score is the refined similarity less γ times the crowd's, the mean of "
        "that of the nearest entries with other values",
        low=0,
        high=1,
    )
    neighbours: int = _gate(8, "how many of those nearest entries the crowd is", low=1)
    margin: float = _gate(
        0.0,
        "an edit fires only if its similarity is greater by at least this than that of the nearest edit with another "
        "value; where a judge decides, its score; 0 lets the nearest fire",
        low=0,
        high=2,
    )

    similar_threshold: float = _similar(
        0.6,
        "score above which a new edit is taken for a stored one in other words, when their targets differ; 1 never",
        low=-1,
        high=1,
    )

    index: str = _search(
        "exact",
        "exact: search all keys; approximate: where there are very many, search those that their short codes propose, "
        "which is faster and may miss some (needs the extra horen[index])",
        choices=("exact", "approximate"),
    )
    index_candidates: int = _search(
        128, "how many proposed keys are compared exactly, at least: more find more and take longer", low=1, high=4096
    )

    recall: str = _recall(
        "off",
        "related: facts that a prompt is about without asking for one of them are put before it in words, and the "
        "model answers from them without a value; off: it answers from what it knows",
        choices=("off", "related"),
    )
    recall_tokens: int = _recall(256, "most tokens of the facts that are put before a prompt", low=16)

    write_layer: float = _value(0.6, "layer whose output carries the value: a depth or a number", layer=True)
    value: str = _value(
        "state",
        "state: h = v, h being the layer's output, so that what the prompt ends with matters less; vector: h += v and "
        "lora: h += B A h with rank lora_rank, h being the MLP's output",
        choices=("state", "vector", "lora"),
    )
    lora_rank: int = _value(1, "rank r of a lora value", low=1)
    value_storage: str = _value(
        "bfloat16",
        "type in which a value is stored, for which it is trained and from which it is applied; int8 has one scale of "
        "two bytes for each vector, two for each rank of a lora value",
        choices=("float32", "float16", "bfloat16", "int8"),
    )
    start: str = _value(
        "zero",
        "where a value starts: zero, or uniform U(0, 1) as published (cold start)",
        choices=("zero", "uniform"),
    )
    value_tokens: int = _value(
        8, "most target tokens that one value carries; a longer target takes several; 0: one carries any", low=0
    )
    contexts: str = _value(
        "several",
        "several: train in plain text, in chat, after unrelated text and on the rephrases; prompt: the prompt alone",
        choices=("several", "prompt"),
    )

    decisions: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "key": "how keys are made",
            "stored": "how keys are stored",
            "gate": "when an edit fires",
            "value": "what a value is and how it is trained",
            "search": "how keys are searched",
            "similar": "when a new edit is taken for a stored one",
            "recall": "what is put before a prompt in words",
        }
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "default": {},
            "activations": {"preset": "activations", **_BEFORE_SCOPE},
            "paper": {
                "preset": "paper",
                "read_sites": "mlp_hidden@0.92",
                "read_share": 0.6,
                "read_weight": "equal",
                "key_space": "raw",
                "feature_power": 1.0,
                "scope": "all",
                "threshold": 0.85,
                "contrast": 0.0,
                "similar_threshold": 1.0,
                "write_layer": 0.92,
                "value": "vector",
                "start": "uniform",
                "optimizer": "adam",
                "learning_rate": 1.0,
                "learning_rate_unit": "absolute",
                "stop_probability": 1.0,
                "contexts": "prompt",
                "value_tokens": 0,
                "train_end": False,
                "precision": "model",
                "key_storage": "float32",
                "value_storage": "float32",
            },
            "text": {
                "preset": "text",
                **_BEFORE_SCOPE,
                "read_sites": TEXT,
                "feature_power": 1.0,
                "contrast": 0.5,
            },
        }
    )
    search: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType(
        {
            "write_layer": (0.5, 0.6, 0.67, 0.75),
            "threshold": (0.4, 0.45, 0.5, 0.55, 0.6),
            "contrast": (0.2, 0.3, 0.4, 0.5),
        }
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reads_text:
            parse_sites(self.read_sites)
        if self.recall != "off" and not self.judges:
            raise ConfigError(
                f"recall={self.recall!r} is not valid with read_sites={self.read_sites!r} and "
                f"key_space={self.key_space!r}: expected settings with a judge, which tells what a prompt is about "
                "(read_sites='text' and key_space='auto', as in the preset 'default'). Leave recall='off', or take "
                "that preset; horen rekey DIR --preset default gives it to stored edits."
            )

    @property
    def reads_text(self) -> bool:
        """Whether keys and queries are made by a text encoder, not of activations."""
        return self.read_sites.strip() == TEXT

    @property
    def judges(self) -> bool:
        """Whether a judge decides who and what a prompt asks, not a cosine alone."""
        return self.reads_text and self.key_space == "auto"

    @property
    def whitens(self) -> bool:
        """Whether features are centred and decorrelated."""
        return self.key_space == "whitened" or (self.key_space == "auto" and not self.reads_text)

    @property
    def sharing_threshold(self) -> float:
        """The cosine of two edits' keys above which one may use the other's value, if it answers alike."""
        return _SHARED if self.judges else self.threshold

    @property
    def weighs_tokens(self) -> bool:
        """Whether tokens are pooled by weights."""
        return self.read_weight == "rare" and not self.reads_text

    def retrieval(self) -> Gate:
        """Return what :meth:`horen.memory.Codebook.match` is told: the settings that decide once keys exist."""
        from horen.memory import Gate  # noqa: PLC0415 - torch takes seconds to import

        return Gate(**{name: getattr(self, name) for name in GATE_SETTINGS})

    def of_keys(self) -> KeyStorage:
        """Return in which numbers keys are stored."""
        from horen.memory import KeyStorage  # noqa: PLC0415

        return KeyStorage(self.key_storage)

    def storage(self) -> Storage:
        """Return in which numbers values are stored; each row of a low-rank map is a block."""
        from horen.memory import Storage  # noqa: PLC0415

        return Storage(self.value_storage, 2 * self.lora_rank if self.value == "lora" else 1)

    def of_values(self) -> dict[str, Any]:
        """Return the settings that decide what a value is; all others decide where it is found."""
        return {name: getattr(self, name) for name in VALUE_SETTINGS}

    def of_edits(self) -> dict[str, Any]:
        """Return all settings but those of search and recall, in which codebooks of like edits may differ."""
        may_differ = {*SEARCH_SETTINGS, *RECALL_SETTINGS}
        return {name: value for name, value in self.to_dict().items() if name not in may_differ}

    def to_saved(self) -> dict[str, Any]:
        """Return the settings as a folder has them: a release that knows no storage of keys can read float32 ones."""
        return {name: value for name, value in self.to_dict().items() if (name, value) not in _FLOAT_KEYS.items()}

    @classmethod
    def from_saved(cls, settings: Mapping[str, Any]) -> Self:
        """Return the settings of a saved codebook, also of version 0.1.0.

        That read one site, weighed all tokens alike, stored keys and values in float32 and recalled nothing.

        Raises:
            ConfigError: for a name that is no setting.
        """
        given = {**_FLOAT_KEYS, "value_storage": "float32", "recall": "off", **_BEFORE_SCOPE} | dict(settings)
        if "read_layer" in given:
            given["read_sites"] = f"{given.pop('read_site')}@{given.pop('read_layer')}"
            given |= {"read_weight": "equal", "feature_power": 1.0, "contrast": 0.0}
        return cls.from_dict(given)

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """Return the published recipe at the same relative depth (layer 29 of 32), with ``changes`` on top.

        Threshold 0.85 is the published one for Llama-3; τ = 0.80 and 0.55 were used for other models.
        """
        return cls.from_preset("paper", **changes)


def _deciding(what: str) -> tuple[str, ...]:
    return tuple(item.name for item in fields(HorenConfig) if item.metadata.get("decides") == what)


#: Names of the settings by what they decide.
KEY_SETTINGS, GATE_SETTINGS, VALUE_SETTINGS = _deciding("key"), _deciding("gate"), _deciding("value")
SEARCH_SETTINGS, RECALL_SETTINGS = _deciding("search"), _deciding("recall")
STORAGE_SETTINGS = ("key_storage", "value_storage")
