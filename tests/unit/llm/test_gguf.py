"""What the header of a GGUF file says, and what a damaged one is answered with."""

from pathlib import Path
from typing import Any

import pytest

from services.llm.engines.gguf import DEFAULT_WINDOW, BadGguf, ControlToken, read_gguf
from tests.support.gguf import write_gguf

VALUES: dict[str, Any] = {
    "general.architecture": "tiny",
    "tiny.context_length": 2048,
    "tiny.block_count": 3,
    "tiny.embedding_length": 64,
    "tiny.attention.head_count": 4,
    "tiny.attention.head_count_kv": 2,
    "tokenizer.chat_template": "{{ messages }}",
    "tokenizer.ggml.tokens": ["a", "<|end|>", "<think>"],
    "tokenizer.ggml.token_type": [1, 3, 4],
}


def test_a_header_describes_its_model(tmp_path: Path) -> None:
    model = read_gguf(write_gguf(tmp_path / "a.gguf", VALUES))
    assert (model.architecture, model.window, model.chat_template) == ("tiny", 2048, "{{ messages }}")
    # 16 numbers for each of 2 heads, for keys and for values, in 3 layers, of 2 bytes
    assert model.cache_bytes == 16 * 2 * 2 * 3 * 2
    assert model.controls == {1: ControlToken("<|end|>", special=True), 2: ControlToken("<think>", special=False)}


def test_heads_of_their_own_size_and_number_per_layer(tmp_path: Path) -> None:
    own = {"tiny.attention.head_count_kv": [2, 1, 2], "tiny.attention.key_length": 8, "tiny.attention.value_length": 4}
    assert read_gguf(write_gguf(tmp_path / "a.gguf", VALUES | own)).cache_bytes == 2 * (8 + 4) * 3 * 2


def test_a_file_that_says_little(tmp_path: Path) -> None:
    model = read_gguf(write_gguf(tmp_path / "a.gguf", {"general.architecture": "tiny"}))
    assert (model.window, model.chat_template, model.controls) == (DEFAULT_WINDOW, "", {})


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(BadGguf, match="not a GGUF file"):
        read_gguf(path)


def test_a_version_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(BadGguf, match="version of the GGUF format is 9"):
        read_gguf(write_gguf(tmp_path / "a.gguf", VALUES, version=9))


def test_every_shortened_file_is_recognised(tmp_path: Path) -> None:
    data = write_gguf(tmp_path / "a.gguf", VALUES, tensors=4).read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in range(4, len(data) - 2 * 32, 7):
        cut.write_bytes(data[:length])
        with pytest.raises(BadGguf, match=r"damaged|incomplete"):
            read_gguf(cut)


def test_a_length_that_cannot_be(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", VALUES)
    data = bytearray(path.read_bytes())
    data[24:32] = b"\xff" * 8  # the length of the first key
    path.write_bytes(data)
    with pytest.raises(BadGguf, match="damaged"):
        read_gguf(path)
