#!/usr/bin/env bash
# tokenizers 0.23.3, decoders.ByteFallback: characters that were decoded whole turn into replacement characters when
# the next character's first byte follows. Byte tokens that stand side by side are decoded together, and one unfinished or
# broken character spoils all of them, with one U+FFFD a byte. So the text of a longer prefix does not begin with the
# text of a shorter one, and a program that shows the difference of the two loses or takes back characters.
# Byte-level decoders (GPT-2's kind) keep the whole characters. Seen on 2026-11-29.
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.23.3
"$here/venv/bin/python" - <<'PYTHON'
from tokenizers import Tokenizer, __version__, decoders, models

order = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "Q"]
fallback = Tokenizer(models.BPE({text: i for i, text in enumerate(order)}, [], byte_fallback=True))
fallback.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])

written = "Q" + "\u00e9\u00e8\u20ac"  # three characters of two, two and three bytes
ids = fallback.encode(written).ids
assert fallback.decode(ids) == written
texts = [fallback.decode(ids[:count]) for count in range(1, len(ids) + 1)]
print("tokenizers", __version__)
for count, text in enumerate(texts, 1):
    print(count, ascii(text))
assert texts[4] == "Q\u00e9\u00e8"
assert texts[5] == "Q" + "\ufffd" * 5, "whole characters stay whole now"
assert texts[6] == "Q" + "\ufffd" * 6
PYTHON
