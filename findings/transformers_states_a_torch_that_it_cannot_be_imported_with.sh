#!/usr/bin/env bash
# transformers 5.20.0 with torch 2.7.0.
# Expected: transformers states the least torch in its extra "torch", so its model classes can be imported with torch 2.7,
#           which is no less.
# Seen:     "from transformers import PreTrainedModel" raises ModuleNotFoundError, which asks whether requirements are
#           "defined correctly". Beneath it is another one: torch.distributed.checkpoint.hf_storage, which torch has from 2.8 on,
#           is imported with every model, on one CPU too.
# It matters to every package that takes its least torch from what transformers states: pip then installs the two together.
# Exits with 0 while this is so, and with 1 once the import succeeds or the statement excludes 2.7.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.7.0
"$place/venv/bin/pip" install --quiet transformers==5.20.0
"$place/venv/bin/python" - <<'PY'
import importlib.metadata
import sys

from packaging.requirements import Requirement

stated = [Requirement(text) for text in importlib.metadata.requires("transformers")]
stated = [one for one in stated if one.name == "torch" and one.marker and one.marker.evaluate({"extra": "torch"})]
print("transformers", importlib.metadata.version("transformers"), "states", [str(one) for one in stated])
if not all("2.7.0" in one.specifier for one in stated):
    sys.exit("torch 2.7.0 is excluded now")
try:
    from transformers import PreTrainedModel
except ModuleNotFoundError as error:
    print("seen:", error)
else:
    sys.exit("the import succeeds now: " + PreTrainedModel.__name__)
try:
    import torch.distributed.checkpoint.hf_storage
except ModuleNotFoundError as error:
    print("beneath it:", error)
else:
    sys.exit("torch has that module now")
PY
