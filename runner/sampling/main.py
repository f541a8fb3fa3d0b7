"""`runner-sample MODEL --prompt=TEXT`: have a model go on with texts."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from runner.errors import UserError
from runner.files import remote
from runner.machine import console


def main(arguments: Sequence[str]) -> int:
    """Return the exit code; 2 comes with one to three lines on stderr."""
    try:
        parsed = _parser().parse_args(arguments)
        _sample(parsed)
    except (UserError, ValueError, KeyboardInterrupt) as error:
        print(f"runner-sample: {str(error) or 'interrupted'}", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="runner-sample",
        description="Have a model go on with texts.",
        allow_abbrev=False,
    )
    option = parser.add_argument
    option(
        "model",
        metavar="MODEL",
        type=remote.local("model"),
        help="a work directory (WORKDIR@STEP, WORKDIR@best), a Hugging Face folder or "
        "a .gguf file",
    )
    option("--prompt", action="append", default=[], metavar="TEXT", help="any number")
    option(
        "--prompts",
        default="",
        metavar="FILE",
        type=remote.local("--prompts"),
        help='a prompt a line; of FILE.jsonl, {"prompt": "..."} a line',
    )
    option("--tokens", type=int, default=128, help="after each prompt, at most (128)")
    option("--temperature", type=float, default=0.0, help="0 takes the best token (0)")
    option("--top_k", type=int, help="draw from so many of the best tokens")
    option("--top_p", type=float, help="draw from the best that have this probability")
    option("--seed", type=int, default=0, help="of the draws (0)")
    option("--batch_size", type=int, default=8, help="prompts at once (8)")
    option(
        "--tokenizer",
        metavar="FILE",
        type=remote.local("--tokenizer"),
        help="a tokenizer.json in place of its own",
    )
    option(
        "--assistant",
        default="",
        metavar="MODEL",
        type=remote.local("--assistant"),
        help="a model of the same tokens that is taken away from MODEL",
    )
    option("--scale", type=float, default=-0.8, help="of the assistant (-0.8)")
    option(
        "--share",
        type=float,
        default=0.01,
        help="of the tokens that it has a say in (0.01)",
    )
    option("--json", action="store_true", help="print a JSON object a line")
    return parser


def _sample(parsed: argparse.Namespace) -> None:
    from models.decoding.contrast import Contrast
    from models.decoding.draws import Draws
    from runner.data import TokenizerFile
    from runner.sampling.job import Sample

    draws = {name: getattr(parsed, name) for name in ("temperature", "top_k", "top_p")}
    job = Sample(
        model=parsed.model,
        prompts=parsed.prompt,
        file=parsed.prompts,
        num_tokens=parsed.tokens,
        draws=Draws(**draws),
        assistant=parsed.assistant,
        contrast=Contrast(scale=parsed.scale, share=parsed.share),
        seed=parsed.seed,
        batch_size=parsed.batch_size,
        tokenizer=parsed.tokenizer and TokenizerFile(file=parsed.tokenizer),
    )
    if not (parsed.prompt or parsed.prompts):
        raise UserError("no prompt; give --prompt=TEXT or --prompts=FILE")
    job.check()
    for one in job.continuations():
        if parsed.json:
            print(json.dumps(dataclasses.asdict(one)), flush=True)
        else:
            print(f"{one.prompt}{one.text}\n", flush=True)


def run() -> None:
    """The console entry point."""
    sys.exit(console.exit_code(main, sys.argv[1:]))


if __name__ == "__main__":
    run()
