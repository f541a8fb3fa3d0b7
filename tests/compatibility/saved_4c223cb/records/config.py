"""The graph of a run, as resolved.

runner --fdl_config=config.py --workdir=NEW
"""

import fiddle as fdl

import runner
import runner.data
import runner.records.modes


def config():
    documents = fdl.Config(runner.data.TextFiles, files=("text.txt",))
    return fdl.Config(
        runner.RecordTeacher,
        teacher=fdl.Config(runner.OnlineTeacher, checkpoint="teacher"),
        data=fdl.Config(
            runner.data.Part,
            data=fdl.Config(
                runner.data.TokenizedText,
                documents=documents,
                tokenizer=fdl.Config(
                    runner.data.ByteBpe,
                    documents=documents,
                    vocab_size=272,
                ),
                sequence_length=32,
            ),
            num_rows=32,
        ),
        mode=fdl.Config(runner.records.modes.TopK, k=8),
        temperatures=(1.0, 2.0),
        batch_size=8,
        shard_size=32,
    )
