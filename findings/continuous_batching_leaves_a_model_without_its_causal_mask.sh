#!/usr/bin/env bash
# transformers 5.24.0 with torch 2.13.0.
# Expected: while a manager of continuous batching is open and has nothing to do, the model that it was made of answers a
#           plain call as before: what a token's logits say depends on the tokens before it alone.
# Seen:     with eager attention a plain call raises nothing, and the first token's logits change with the last token of the
#           prompt. The model's attention is exchanged for one of packed rows as long as the manager is open, and a plain
#           call gives that one no causal mask. Once the manager is closed, the same call is right again.
# It matters for whoever scores, embeds or edits with a model beside serving it. With sdpa the idle model is right.
# Exits with 0 while this is so, and with 1 once a plain call is right beside an open manager, or is refused.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 accelerate
"$place/venv/bin/python" - <<'PY'
import sys

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig, LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
model = LlamaForCausalLM(LlamaConfig(vocab_size=128, attn_implementation="eager", **sizes)).eval()
one, other = torch.tensor([[5, 9, 7, 3]]), torch.tensor([[5, 9, 7, 100]])


def differs() -> float:
    """Return by how much the first token's logits depend on the last token."""
    with torch.no_grad():
        return float((model(one).logits[0, 0] - model(other).logits[0, 0]).abs().max())


before = differs()
room = ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=64)
with model.continuous_batching_context_manager(
    generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, max_new_tokens=2), continuous_batching_config=room
) as manager:
    manager.add_request([5, 9, 7], "first", 2)
    while manager.get_result(timeout=1) is None:
        pass
    try:
        meanwhile = differs()
    except Exception as error:
        print(f"a plain call is refused ({type(error).__name__}): this has changed")
        sys.exit(1)
after = differs()
print(f"first token's logits, by the last token: before {before:.2g}, meanwhile {meanwhile:.2g}, after {after:.2g}")
sys.exit(0 if before == after == 0 and meanwhile > 1e-3 else 1)
PY
