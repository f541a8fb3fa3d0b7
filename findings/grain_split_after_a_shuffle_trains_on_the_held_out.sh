#!/usr/bin/env bash
# grain 0.2.18 (Python 3.11): a MapDataset that is shuffled and then cut into a part to
# train on and a part held out trains on what is held out, from its second epoch on.
#
# Guess:  d = MapDataset.source(rows).shuffle(seed=0) has one order, so that d[:8] and d[8:]
#         are two sets of rows that share none, and d[:8].repeat() reads the first again
#         and again.
# Seen:   repeat goes on counting, and the shuffle draws another order for each epoch,
#         below the slice: d[:8] is the first eight of another order each time. Within
#         one epoch the parts share nothing, so a look at both shows nothing. Cut first
#         and shuffled afterwards, they stay apart.
#
#         held out [2, 5]; trained on in epoch 1 none of them, 2: [2, 5], 3: [2]
#         cut, then shuffled: none, none, none
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grain==0.2.18

cat > "$folder/split.py" <<'PYTHON'
import grain

ROWS, TRAINED, EPOCHS = 10, 8, 3


def leaks(train, held_out):
    """The held-out rows among those of each epoch."""
    rows = list(train.repeat(EPOCHS))
    epochs = [rows[i * TRAINED : (i + 1) * TRAINED] for i in range(EPOCHS)]
    return [sorted(set(epoch) & set(held_out)) for epoch in epochs]


rows = grain.MapDataset.source(range(ROWS))
shuffled = rows.shuffle(seed=0)
held_out = sorted(shuffled[TRAINED:])
late = leaks(shuffled[:TRAINED], held_out)
early = leaks(rows[:TRAINED].shuffle(seed=0), list(rows[TRAINED:]))
print(f"shuffled, then cut: held out {held_out}, trained on {late}")
print(f"cut, then shuffled: held out {list(rows[TRAINED:])}, trained on {early}")
assert late[0] == [] and any(late[1:])
assert early == [[]] * EPOCHS
PYTHON
"$folder/venv/bin/python" "$folder/split.py"
