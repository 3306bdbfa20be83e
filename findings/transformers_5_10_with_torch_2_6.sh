#!/usr/bin/env bash
# transformers 5.10.4 with torch 2.6.0.
# Expected: transformers states torch>=2.4 for its extra "torch" and in its own table of versions, so its model classes can be
#           imported with torch 2.6.
# Seen:     "from transformers import PreTrainedModel" raises ModuleNotFoundError, which asks whether requirements are
#           "defined correctly". Beneath it is an AttributeError: a module of fine-grained float8 names torch.float8_e8m0fnu,
#           which torch has from 2.7 on, while it is imported, on the CPU too and without any quantised model.
# It matters to every package that takes its least torch from what transformers states.
# Exits with 0 while this is so, and with 1 once the import succeeds or the statement says 2.7.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.6.0
"$place/venv/bin/pip" install --quiet transformers==5.10.4
"$place/venv/bin/python" - <<'PY'
import importlib.metadata
import sys

stated = [line for line in importlib.metadata.requires("transformers") if line.startswith("torch>") and '"torch"' in line]
print("transformers", importlib.metadata.version("transformers"), "states", stated)
try:
    from transformers import PreTrainedModel
except ModuleNotFoundError as error:
    print("seen:", error)
else:
    sys.exit("the import succeeds now: " + PreTrainedModel.__name__)
try:
    import transformers.integrations.finegrained_fp8
except AttributeError as error:
    print("beneath it:", error)
else:
    sys.exit("that module can be imported now")
if stated != ['torch>=2.4; extra == "torch"']:
    sys.exit("the statement is another one now")
PY
