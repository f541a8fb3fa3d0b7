"""Graph nodes that declare a tokenizer."""

import abc
import dataclasses
from pathlib import Path

from runner.data import cache as caching
from runner.data import file_forms
from runner.data.documents.document import Documents, digest
from runner.data.text import chat_files, document_ends
from runner.data.text.chat_files import ChatFiles
from runner.data.text.vocabulary import Vocabulary, vocabulary
from runner.errors import UserError
from runner.graph.job import Checked

_BYTES = 256

# A word with the one character before it; up to three digits; a run of punctuation with
# the line end and indentation after it but for the last space; white space. It takes
# 6 % fewer tokens than the pattern of GPT-2, on Python at vocabulary 4,096.
_WORDS = (
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+(?:[\r\n]+ *(?= ))?|\s+(?!\S)|\s+"
)


class TokenizerSource(Checked, abc.ABC):
    """A tokenizer, declared without reading it; `load` reads or trains it."""

    @abc.abstractmethod
    def check(self) -> None:
        """Run the cheap checks, before any device work.

        Raises:
          UserError: a file is missing.
        """

    @abc.abstractmethod
    def load(self, *, cache: str = "") -> Vocabulary:
        """Return the vocabulary.

        Args:
          cache: Directory for results that later runs reuse; "" is the usual one.

        Raises:
          UserError: A file is not a tokenizer of bytes.
        """

    def chat_files(self) -> ChatFiles:
        """Return the chat templates that come with it; by default none.

        Raises:
          UserError: A file is not of its form.
        """
        return ChatFiles()


@dataclasses.dataclass(frozen=True)
class TokenizerFile(TokenizerSource):
    """A Hugging Face `tokenizer.json`, byte-level or byte-fallback.

    Attributes:
      file: Path of the file.
      end: Name of the token that ends a document; "" is the end that the file, or
        `tokenizer_config.json` or `generation_config.json` beside it, names (see
        `document_ends.read`).
    """

    file: str
    end: str = ""

    def check(self) -> None:
        if not Path(self.file).expanduser().is_file():
            raise UserError(f"no such tokenizer file: {self.file}")

    def load(self, *, cache: str = "") -> Vocabulary:
        from tokenizers import Tokenizer

        self.check()
        path = Path(self.file).expanduser()
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises no narrower class
            with path.open("rb") as content:
                form = file_forms.describe(content.read(file_forms.LONGEST))
            reason = f"it is {form}" if form else str(error).splitlines()[0]
            raise UserError(f"{self.file} is not a tokenizer.json: {reason}") from error
        loaded = vocabulary(tokenizer, source=self.file)
        chat = self.chat_files() if path.name == "tokenizer.json" else ChatFiles()
        return dataclasses.replace(
            loaded,
            ends=document_ends.read(tokenizer, path),
            chat=chat,
            stops=document_ends.stops(tokenizer, path),
        ).with_ends(end=self.end)

    def chat_files(self) -> ChatFiles:
        return chat_files.read(Path(self.file).expanduser().parent)


@dataclasses.dataclass(frozen=True)
class ByteBPE(TokenizerSource):
    """Byte-level byte-pair encoding trained on `documents`, then cached.

    Each byte is a token, so any text can be encoded; id 0 ends a document. Training is
    deterministic: the same documents give the same merges.

    Attributes:
      documents: To train on.
      vocab_size: Number of ids, at least 257.

    Raises:
      UserError: The vocabulary is too small.

    Source: Sennrich et al. 2016 (arXiv:1508.07909); over bytes, Radford et al. 2019.
    """

    documents: Documents
    vocab_size: int = 4096

    def __post_init__(self) -> None:
        if self.vocab_size <= _BYTES:
            raise UserError(
                f"vocab_size must be at least {_BYTES + 1} (every byte, and the end of "
                f"a document), got {self.vocab_size}"
            )

    def check(self) -> None:
        self.documents.check()

    def load(self, *, cache: str = "") -> Vocabulary:
        import tokenizers

        training = f"{digest(self.documents).hexdigest()}-{self.vocab_size}"
        name = f"bpe-1-{training}-{tokenizers.__version__}.json"
        payload = caching.fetch(
            caching.directory(cache) / "tokenizers" / name,
            lambda: [self._train().encode()],
        )
        loaded = tokenizers.Tokenizer.from_str(bytes(payload).decode())
        if loaded.get_vocab_size() < self.vocab_size:
            raise UserError(
                f"vocab_size is {self.vocab_size}, but these documents give only "
                f"{loaded.get_vocab_size()} tokens"
            )
        return vocabulary(loaded, end=0)

    def _train(self) -> str:
        """Train on the documents; return the content of a `tokenizer.json`."""
        from tokenizers import Regex, Tokenizer, decoders, models, trainers
        from tokenizers import pre_tokenizers as pre

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre.Sequence(
            [
                pre.Split(Regex(_WORDS), behavior="isolated"),
                pre.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        # All 256 bytes from the start: no text is outside of the vocabulary.
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=[document_ends.END],
            initial_alphabet=sorted(pre.ByteLevel.alphabet()),
            show_progress=False,
        )
        texts = (document.text for document in self.documents)
        tokenizer.train_from_iterator(texts, trainer)
        return tokenizer.to_str()
