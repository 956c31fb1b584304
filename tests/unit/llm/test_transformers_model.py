"""Transformers chat models with continuous batching: the real architectures with random weights."""

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog

from services.llm.engine import Usage
from services.llm.engines import kv_cache
from services.llm.engines import transformers as engine
from services.llm.engines.transformers import TransformersModel
from shared.engines.registry import EngineLost, UnknownEngine
from shared.engines.repositories import ModelMissing
from shared.protocol.session import Message, ToolCall
from shared.settings import Settings
from tests.support import random_models
from tests.support.waiting import HANG_S, until

TOKENS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.chat(tmp_path_factory.mktemp("chat"))


def settings(folder: Path, **given: Any) -> Settings:
    usual: dict[str, Any] = {"device": "cpu", "threads": 1, "temperature": 0, "reply_tokens": TOKENS, "model_slots": 32}
    return Settings(**{"llm_model": str(folder), **usual, **given})


@asynccontextmanager
async def loaded(folder: Path, **given: Any) -> AsyncIterator[TransformersModel]:
    model = TransformersModel(settings(folder, **given))
    try:
        async with asyncio.timeout(HANG_S):
            await model.load()
        yield model
    finally:
        await model.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model(folder: Path) -> AsyncIterator[TransformersModel]:
    async with loaded(folder) as model:
        yield model


pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


def talk(*texts: str) -> list[Message]:
    roles = ("user", "assistant")
    said = [Message(roles[place % 2], text, place // 2 + 1) for place, text in enumerate(texts)]
    return [Message("system", "Be brief.", 0), *said]


async def replied(model: TransformersModel, messages: Sequence[Message], prefix: str = "") -> list[str]:
    async with asyncio.timeout(HANG_S), aclosing(model.reply(messages, language="en", prefix=prefix)) as pieces:
        return [str(piece) async for piece in pieces if not isinstance(piece, Usage)]


async def usage_of(model: TransformersModel, texts: str, prefix: str = "") -> Usage:
    """Return the usage of a reply."""
    async with asyncio.timeout(HANG_S), aclosing(model.reply(talk(texts), language="en", prefix=prefix)) as pieces:
        (usage,) = [piece async for piece in pieces if isinstance(piece, Usage)]
    return usage


def scheduler(model: TransformersModel) -> Any:
    return model._manager.batch_processor.scheduler


def idle(model: TransformersModel) -> bool:
    """Whether the library holds no state of any reply."""
    manager = model._manager
    left = (scheduler(model).has_pending_requests(), manager.input_queue.qsize(), manager.cancel_queue.qsize())
    return not any(left) and not manager.output_router.result_handlers


async def test_a_reply_comes_word_by_word(model: TransformersModel) -> None:
    pieces = await replied(model, talk("Hello."))
    assert len(pieces) == TOKENS
    assert pieces[0].startswith("w")
    assert pieces[0] == pieces[0].strip()
    assert await replied(model, talk("Hello.")) == pieces
    assert await replied(model, talk("Goodbye.")) != pieces
    await until(lambda: idle(model))


async def test_text_is_streamed_during_generation(folder: Path) -> None:
    async with loaded(folder, reply_tokens=1000) as model:
        step = model._steps()
        async with asyncio.timeout(HANG_S), aclosing(model.reply(talk("Hello."), language="en")) as pieces:
            assert isinstance(await anext(pieces), Usage)
            assert isinstance(await anext(pieces), str)
            assert model._steps() - step < 500


async def test_concurrent_replies_equal_sequential_ones(model: TransformersModel) -> None:
    asked = [talk(*(["What?", "That."] * (number % 5)), "why " * (number * 7 % 40 + 1)) for number in range(24)]
    alone = [await replied(model, messages) for messages in asked]
    assert await asyncio.gather(*(replied(model, messages) for messages in asked)) == alone
    assert len({tuple(pieces) for pieces in alone}) > 20


async def test_a_reply_continues_after_its_prefix(model: TransformersModel) -> None:
    """The limit of tokens applies to prefix and rest together."""
    pieces = await replied(model, talk("Hello."))
    rest = await replied(model, talk("Hello."), prefix="Well,")
    assert len(rest) == TOKENS - len("Well,")
    assert rest[0].startswith(" w")
    assert rest != pieces[len("Well,") :]
    assert await replied(model, talk("Hello."), prefix="x" * TOKENS) == []


async def test_usage_is_counted(model: TransformersModel) -> None:
    usage = await usage_of(model, "Hello.")
    assert (usage.reply, usage.cached, usage.finish_reason) == (TOKENS, 0, "length")
    longer = await usage_of(model, "Hello." + "x" * 7)
    assert longer.prompt == usage.prompt + 7
    rest = await usage_of(model, "Hello.", prefix="Well,")
    assert (rest.prompt, rest.reply) == (usage.prompt + len("Well,"), TOKENS - len("Well,"))


async def test_usage_of_a_cancelled_reply_is_counted(folder: Path) -> None:
    async with loaded(folder, reply_tokens=1500) as model:
        async with aclosing(model.reply(talk("Hello."), language="en")) as pieces:
            usage = await anext(pieces)
            for _ in range(5):
                await anext(pieces)
        assert isinstance(usage, Usage)
        assert usage.prompt
        assert 5 <= usage.reply < 1500
        assert usage.finish_reason == ""


async def test_empty_prompts_are_accepted(model: TransformersModel) -> None:
    assert await replied(model, [])
    assert await replied(model, [Message("system", "Greet them.", 0)])
    assert await replied(model, talk("Hello.", "Hi.", "")[:-1])


async def test_a_cancelled_reply_frees_its_slot(folder: Path) -> None:
    async with loaded(folder, reply_tokens=1500) as model:
        async with aclosing(model.reply(talk("Hello."), language="en")) as pieces:
            await anext(pieces)
            assert scheduler(model).active_requests
        step = model._steps()
        await until(lambda: idle(model))
        assert model._steps() < step + 1000
        assert scheduler(model).cache.compute_free_capacity() > 0.9


async def test_two_hundred_cancelled_replies_leak_nothing(model: TransformersModel) -> None:
    async def begun(number: int) -> None:
        async with aclosing(model.reply(talk(f"Hello {number}."), language="en")) as pieces:
            async for _ in pieces:
                await asyncio.sleep(60)

    for _ in range(4):
        tasks = [asyncio.ensure_future(begun(number)) for number in range(50)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: idle(model))
    pieces = await replied(model, talk("Hello."))
    assert len(pieces) == TOKENS
    await until(lambda: idle(model))
    assert model._manager.output_router.output_queue.empty()
    assert not scheduler(model)._requests_to_cancel


async def test_a_second_turn_reuses_the_cached_prefix(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = scheduler(model).cache
    shared: list[int] = []
    search = kept.search_prefix_match

    def noted(*asked: Any) -> int:
        shared.append(search(*asked))
        return shared[-1]

    monkeypatch.setattr(kept, "search_prefix_match", noted)
    said = talk("Tell me of the trains to the city, and of those that go back from there at night.")
    first = await replied(model, said)
    said += [Message("assistant", "".join(first), 1), Message("user", "And tomorrow?", 2)]
    await replied(model, said)
    prompt = model._template.fit(said[:2], (), 1000).ids
    page = kv_cache.PAGE["cpu"]
    assert shared[1] % page == 0
    assert shared[1] >= len(prompt) // page * page > 2 * page


async def test_a_request_wakes_the_idle_manager(model: TransformersModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's thread sleeps while it is idle; without the wake-up, the request would hang."""
    wake = model._manager._wake_up_loop
    monkeypatch.setattr(wake, "wait", lambda timeout: threading.Event.wait(wake, HANG_S))
    for number in range(9):
        await asyncio.sleep(0.02)
        await replied(model, talk(f"Hello {number}."))
    wake.set()  # the next test's patience is shorter


async def test_a_reply_stops_at_any_end_token(folder: Path, tmp_path: Path) -> None:
    """The end tokens come from the template, the tokenizer and the model; none of them is part of the text."""
    import torch

    shutil.copytree(folder, tmp_path / "ends")
    import transformers

    hf: Any = transformers
    model = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "ends")
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "ends")
    end, other = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    with torch.no_grad():
        model.lm_head.weight[end] = model.lm_head.weight[300:900].abs().max(0).values
        model.model.norm.weight.abs_()
    model.generation_config.eos_token_id = other
    model.save_pretrained(tmp_path / "ends")
    about = json.loads((tmp_path / "ends" / "tokenizer_config.json").read_text())
    (tmp_path / "ends" / "tokenizer_config.json").write_text(json.dumps({**about, "eos_token": "<|endoftext|>"}))
    async with loaded(tmp_path / "ends", reply_tokens=200) as made:
        assert made._end_ids == sorted([end, other])
        replies = [await replied(made, talk("x" * number)) for number in range(1, 9)]
    assert min(map(len, replies)) < 200
    assert not any("<|" in piece for reply in replies for piece in reply)


async def test_a_turn_that_is_too_long_fails_that_reply(model: TransformersModel) -> None:
    with pytest.raises(ValueError, match=r"tokens long; the model accepts \d+"):
        await replied(model, talk("x" * 5000))
    assert await replied(model, talk("Hello."))


async def test_a_long_conversation_is_truncated(folder: Path) -> None:
    async with loaded(folder, context_tokens=300) as model:
        assert len(await replied(model, talk(*["What?", "That."] * 100, "So?"))) == TOKENS


async def test_replies_wait_for_room_in_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies that do not fit are deferred and complete later."""
    monkeypatch.setattr(kv_cache, "TOKENS_ON_CPU", 0)
    monkeypatch.setattr(kv_cache, "BYTES_ON_CPU", 512 * 2 * 2 * 16 * 4 * 2)
    async with loaded(folder, reply_tokens=100) as model:
        assert model._limit == 512 - 32 - 100
        alone = [await replied(model, talk(f"{number}" * 300)) for number in range(6)]
        together = await asyncio.gather(*(replied(model, talk(f"{number}" * 300)) for number in range(6)))
        assert together == alone


async def test_the_cache_is_bounded_by_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with loaded(folder) as model:
        per_token = 2 * 2 * 2 * 16 * 4
        assert scheduler(model).cache.cache_tensor.numel() <= (kv_cache.TOKENS_ON_CPU + 64) * per_token
    monkeypatch.setattr(kv_cache, "BYTES_ON_CPU", 50 * per_token)
    with pytest.raises(UnknownEngine, match="context of 32 tokens; PARLEY_REPLY_TOKENS=24 leaves no room"):
        await TransformersModel(settings(folder)).load()


async def test_too_little_memory_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_cache, "TOKENS_ON_CPU", 10**12)
    monkeypatch.setattr(kv_cache, "BYTES_ON_CPU", 10**18)
    with pytest.raises(EngineLost, match="no memory left"):
        await TransformersModel(settings(folder)).load()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
async def test_quantization_to_eight_bits(folder: Path) -> None:
    async with loaded(folder, quantize="int8") as model:
        assert len(await replied(model, talk("Hello."))) == TOKENS


async def test_sampling_varies_with_a_temperature(folder: Path) -> None:
    async with loaded(folder, temperature=0.9) as model:
        kinds = {type(one).__name__: one for one in model._manager.logit_processor.logits_processor}
        assert {kind: getattr(kinds[kind], name) for kind, name in WARPERS.items()} == {
            "TemperatureLogitsWarper": 0.9,
            "TopKLogitsWarper": 20,
            "TopPLogitsWarper": 0.8,
        }
        replies = [tuple(await replied(model, talk("Hello."))) for _ in range(4)]
        assert len(set(replies)) > 1


WARPERS = {"TemperatureLogitsWarper": "temperature", "TopKLogitsWarper": "top_k", "TopPLogitsWarper": "top_p"}


async def test_unsupported_generation_options_are_dropped_with_a_warning(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "asks")
    file = tmp_path / "asks" / "generation_config.json"
    asks = {"repetition_penalty": 1.1, "no_repeat_ngram_size": 3, "num_beams": 4, "num_return_sequences": 2}
    file.write_text(json.dumps({**json.loads(file.read_text()), **asks, "max_length": 20}))
    with structlog.testing.capture_logs() as logs:
        async with loaded(tmp_path / "asks") as model:
            assert len(await replied(model, talk("Hello."))) == TOKENS
            await until(lambda: idle(model))
    (entry,) = [entry for entry in logs if "continuous batching" in entry["event"]]
    assert "RepetitionPenaltyLogitsProcessor" in entry["dropped"]


@pytest.mark.usefixtures("no_network")
async def test_no_network_is_used(folder: Path) -> None:
    async with loaded(folder) as model:
        assert await replied(model, talk("Hello."))


@pytest.fixture
def dying() -> Callable[[TransformersModel, BaseException], None]:
    def die(model: TransformersModel, error: BaseException) -> None:
        def forward(*_: Any, **__: Any) -> None:
            raise error

        model._model.forward = forward

    return die


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), "no memory left"),
        (RuntimeError("CUDA error: an illegal memory access was encountered\nmore"), "the device"),
        (MemoryError(), "no memory left"),
        (IndexError(), "has stopped: IndexError"),
    ],
)
async def test_all_replies_fail_when_the_model_dies(
    folder: Path, dying: Callable[[TransformersModel, BaseException], None], error: BaseException, says: str
) -> None:
    async with loaded(folder, reply_tokens=1000) as model:
        replies = [model.reply(talk(f"Hello {number}."), language="en") for number in range(8)]
        for reply in replies:
            await anext(reply)
        dying(model, error)
        ends = await asyncio.gather(*(replied_rest(reply) for reply in replies), return_exceptions=True)
        assert all(isinstance(end, EngineLost) and says in str(end) for end in ends)
        with pytest.raises(EngineLost, match=says):
            await replied(model, talk("Hello."))
        assert not model._manager.output_router.result_handlers


async def replied_rest(reply: AsyncIterator[str | ToolCall | Usage]) -> None:
    async for _ in reply:
        pass


async def test_a_reply_to_a_stopped_model_fails_soon(folder: Path) -> None:
    """The request comes at the moment in which the manager stops."""
    async with loaded(folder) as other:
        status = other._manager.background_thread_status
        accept = status.can_accept_new_requests
        await asyncio.to_thread(other._manager.stop, hard_stop=True)
        status.can_accept_new_requests = lambda: None  # as if it were still running
        asking = asyncio.ensure_future(replied(other, talk("Hello.")))
        await asyncio.sleep(0.05)
        status.can_accept_new_requests = accept
        with pytest.raises(EngineLost, match="has stopped"):
            await asyncio.wait_for(asking, HANG_S)


async def test_a_hanging_step_is_detected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "STOP_S", 0.1)
    go_on = threading.Event()
    async with loaded(folder) as model:
        model._stalled_s = 0.6
        forward = model._model.forward
        model._model.forward = lambda *given, **named: (go_on.wait(20), forward(*given, **named))[1]
        try:
            with pytest.raises(EngineLost, match=r"no step for 0\.6 s"):
                await replied(model, talk("Hello."))
            await model.close()
            assert all(thread.daemon for thread in threading.enumerate() if "_run_generation_loop" in thread.name)
        finally:
            go_on.set()


async def test_it_can_be_closed_twice_and_before_it_is_loaded(folder: Path) -> None:
    await TransformersModel(settings(folder)).close()
    async with loaded(folder) as model:
        await model.close()
        await model.close()
        with pytest.raises(EngineLost):
            await replied(model, talk("Hello."))
    assert not any("_run_generation_loop" in thread.name and not thread.daemon for thread in threading.enumerate())


def altered(folder: Path, tmp_path: Path, **files: Any) -> Path:
    """Copy a model with some files changed: None deletes a file, bytes replace it, a dict updates its JSON."""
    shutil.copytree(folder, tmp_path / "altered")
    for name, content in files.items():
        path = next(path for path in (tmp_path / "altered").iterdir() if path.name.replace(".", "_") == name)
        if content is None:
            path.unlink()
        elif isinstance(content, dict):
            path.write_text(json.dumps({**json.loads(path.read_text()), **content}))
        else:
            path.write_bytes(content)
    return tmp_path / "altered"


@pytest.mark.parametrize(
    ("files", "kind", "says"),
    [
        ({"model_safetensors": None}, ModelMissing, r"model\.safetensors missing"),
        ({"config_json": None}, ModelMissing, r"config\.json missing"),
        ({"model_safetensors": b""}, UnknownEngine, "cannot be loaded"),
        ({"model_safetensors": b"\xff" * 4096}, UnknownEngine, "cannot be loaded"),
        ({"config_json": b"{no json"}, UnknownEngine, "cannot be loaded"),
        ({"config_json": {"model_type": "nonsense"}}, UnknownEngine, "nonsense"),
        ({"config_json": {"hidden_size": 48}}, UnknownEngine, "cannot be loaded"),
        (
            {"config_json": {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}},
            UnknownEngine,
            r"1\d weights are missing",
        ),
        ({"config_json": {"max_position_embeddings": 80}}, UnknownEngine, "context of 80 tokens"),
        ({"tokenizer_json": None}, UnknownEngine, "altered"),
        ({"tokenizer_json": b"{no json"}, UnknownEngine, "cannot be loaded"),
        ({"chat_template_jinja": None}, UnknownEngine, "no chat template"),
        ({"chat_template_jinja": b"{% for"}, UnknownEngine, "accepts no conversation"),
    ],
    ids=str,
)
async def test_missing_and_damaged_files_are_named(
    folder: Path, tmp_path: Path, files: dict[str, Any], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says) as raised:
        await TransformersModel(settings(altered(folder, tmp_path, **files))).load()
    assert "altered" in str(raised.value)


def of_type(folder: Path, where: Path, name: str, **size: Any) -> Path:
    """Create a model of that type with the tokenizer and template of the chat model."""
    import torch
    import transformers

    hf: Any = transformers
    shutil.copytree(folder, where, ignore=shutil.ignore_patterns("config.json", "generation_config.json", "*.safe*"))
    ends = {"bos_token_id": 0, "eos_token_id": 1021, "pad_token_id": 1019}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(1)
    config = getattr(hf, name + "Config")(**{"vocab_size": 1024, "hidden_size": 32, **layers, **ends, **size})
    for auto in (hf.AutoModelForCausalLM, hf.AutoModelForSeq2SeqLM, hf.AutoModelForSpeechSeq2Seq):
        if type(config) in auto._model_mapping:
            model = auto.from_config(config)
            if (head := model.get_output_embeddings()) is not None and not model.config.tie_word_embeddings:
                with torch.no_grad():  # make ordinary words likely
                    head.weight[:256] = head.weight[-5:] = 0
            model.save_pretrained(where)
            return where
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("T5", {"d_model": 32, "d_ff": 64, "d_kv": 8}, "type 't5' is not a chat model"),
        ("Mamba", {}, "type 'mamba' does not support"),
        ("Bloom", {}, "type 'bloom' does not support"),
        (
            "Lfm2",
            {"intermediate_size": 64, "layer_types": ["conv", "full_attention"]},
            "continuous batching fails for the type 'lfm2'",
        ),
    ],
)
async def test_unsupported_model_types_are_named(
    folder: Path, tmp_path: Path, name: str, size: dict[str, Any], says: str
) -> None:
    with pytest.raises(UnknownEngine, match=says):
        await TransformersModel(settings(of_type(folder, tmp_path / "kind", name, **size))).load()


async def test_a_speech_recognizer_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UnknownEngine, match="type 'whisper' is not a chat model"):
        await TransformersModel(settings(random_models.whisper(tmp_path))).load()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("Llama", {"intermediate_size": 64}),
        ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 600}),
        ("Mistral", {"intermediate_size": 64, "num_key_value_heads": 2, "sliding_window": 64}),
        (
            "Gemma3Text",
            {
                "intermediate_size": 64,
                "num_key_value_heads": 2,
                "head_dim": 16,
                "sliding_window": 64,
                "layer_types": ["sliding_attention", "full_attention"],
            },
        ),
    ],
)
async def test_other_model_types_reply(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: dict[str, Any]
) -> None:
    monkeypatch.setattr(kv_cache, "TOKENS_ON_CPU", 0)
    made = of_type(folder, tmp_path / "kind", name, initializer_range=0.5, tie_word_embeddings=False, **size)
    async with loaded(made, context_tokens=400) as model:
        alone = [await replied(model, talk(f"{number}" * 250)) for number in range(4)]
        assert await asyncio.gather(*(replied(model, talk(f"{number}" * 250)) for number in range(4))) == alone
        assert all(alone)
