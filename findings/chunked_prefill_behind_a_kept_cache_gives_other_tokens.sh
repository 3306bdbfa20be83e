#!/usr/bin/env bash
# transformers 5.17.0 with torch 2.13.0, on the CPU.
# Expected: generate with a filled cache and the new ids alone gives the same greedy tokens whether the new ids are read at
#           once or in chunks (prefill_chunk_size), and as with all ids and no cache.
# Seen:     in chunks the tokens are others, without a warning: 12 tokens in the cache, 8 new ones, chunks of 5.
#           5.18.0 gives the same tokens.
# It matters to whoever keeps a conversation's cache and bounds memory by chunks: the answer is silently another.
# Exits with 0 while this is so, and with 1 once the tokens agree.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0
"$place/venv/bin/pip" install --quiet transformers==5.17.0
"$place/venv/bin/python" - <<'PY' 2>/dev/null
import sys

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
)
model = LlamaForCausalLM(config).eval()
ids = torch.randint(3, 60, (1, 20))
options = {"max_new_tokens": 3, "do_sample": False, "attention_mask": torch.ones_like(ids)}


def going_on(**more):
    cache = DynamicCache(config=config)
    with torch.no_grad():
        model(ids[:, :12], past_key_values=cache, use_cache=True)
    found = model.generate(input_ids=ids[:, 12:], past_key_values=cache, **options, **more)
    return found[0, -3:].tolist()


whole = model.generate(input_ids=ids, **options)[0, -3:].tolist()
at_once, in_chunks = going_on(), going_on(prefill_chunk_size=5)
print("all ids:", whole, " new ids at once:", at_once, " new ids in chunks of 5:", in_chunks)
if at_once != whole:
    sys.exit("the new ids at once give other tokens, too")
if in_chunks == whole:
    sys.exit("chunks give the same tokens now")
PY
