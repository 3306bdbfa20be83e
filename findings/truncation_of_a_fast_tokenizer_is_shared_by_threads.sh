#!/usr/bin/env bash
# transformers 5.24.0 with tokenizers 0.23.3.
# Expected: tokenizer(text, truncation=True, max_length=n) gives n tokens of a long text, whatever other threads ask of the
#           same tokenizer: the length is an argument of the call.
# Seen:     the length is set on the tokenizer before the text is encoded, so two threads that ask with two lengths now and
#           then get each other's: rows of 64 tokens where 4 were asked for, and the other way round. No error is raised.
# It matters where one tokenizer serves a model that reads one text and a model that reads a pair, with two limits.
# Exits with 0 while this is so, and with 1 once every row has the length that it was asked with.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet transformers==5.24.0 tokenizers==0.23.3
"$place/venv/bin/python" - <<'PY'
import sys
import threading
import time

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

words = {f"w{i}": i for i in range(100)} | {"[UNK]": 100, "[PAD]": 101}
raw = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]", pad_token="[PAD]")
text = " ".join(words)
lengths = (4, 64)


def cut(length):
    return len(tokenizer(text, truncation=True, max_length=length)["input_ids"])


alone = [cut(length) for length in lengths]
assert alone == list(lengths), f"one thread alone gets {alone}"
wrong, stop = [], time.monotonic() + 60


def ask(length):
    while not wrong and time.monotonic() < stop:
        found = cut(length)
        if found != length:
            wrong.append((length, found))


threads = [threading.Thread(target=ask, args=(length,)) for length in lengths]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if not wrong:
    sys.exit("every row had the length that it was asked with: this has changed")
print(f"asked for {wrong[0][0]} tokens, got {wrong[0][1]}, while another thread asked for the other length")
PY
