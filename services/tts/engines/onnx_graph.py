"""Cut an ONNX graph into parts, each a model of its own. Pure.

An ONNX file is a Protocol Buffers message. The few fields that a cut needs are read here, so that a worker does not need
the package `onnx`, whose wheel has 18 MB and whose import takes half a second. The messages of nodes and weights are
copied as they are. Field numbers are those of `onnx.proto`.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

_MODEL_GRAPH = 7
_NODE, _NAME, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 2, 5, 11, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP = 1, 2, 4
_TENSOR_NAME, _VALUE_NAME, _VALUE_TYPE = 8, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT_TENSOR = b"\x0a\x02\x08\x01"
"""A `TypeProto`: a tensor of 32-bit floats of any shape."""


class BadGraph(ValueError):
    """The file is not an ONNX model, or it is damaged."""


@dataclass(frozen=True, slots=True)
class Node:
    """An operation, and the tensors that it reads and makes."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    message: bytes


class Graph:
    """A model's graph. Its nodes are in an order in which they can run."""

    def __init__(self, model: bytes) -> None:
        """Raises `BadGraph` if the bytes are not an ONNX model."""
        try:
            self._read(memoryview(model))
        except (IndexError, ValueError) as error:
            raise BadGraph("not an ONNX model, or damaged") from error
        if not self.nodes:
            raise BadGraph("not an ONNX model: it has no nodes")

    def _read(self, model: memoryview) -> None:
        self._header: list[bytes] = []
        self.nodes: list[Node] = []
        self._weights: dict[str, bytes] = {}
        self._values: dict[str, bytes] = {}  # name and type of each tensor whose type is known
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        for number, kind, value in _fields(model):
            if number != _MODEL_GRAPH:
                self._header.append(_field(number, kind, value))
                continue
            for part, _, message in _fields(value):
                if part == _NODE:
                    self.nodes.append(_node(message))
                elif part == _INITIALIZER:
                    self._weights[_text(message, _TENSOR_NAME)] = bytes(message)
                elif part in (_INPUT, _OUTPUT, _VALUE_INFO):
                    name = _text(message, _VALUE_NAME)
                    self._values[name] = bytes(message)
                    if part != _VALUE_INFO:
                        (self.inputs if part == _INPUT else self.outputs).append(name)

    def needed(self, outputs: Collection[str], given: Collection[str] = ()) -> set[int]:
        """Return the positions of the nodes that make `outputs` from the model's inputs and the tensors in `given`."""
        wanted, found = set(outputs) - set(given), set()
        for position in range(len(self.nodes) - 1, -1, -1):
            if not wanted.isdisjoint(self.nodes[position].outputs):
                found.add(position)
                wanted.update(name for name in self.nodes[position].inputs if name not in given)
        return found

    def between(self, first: Collection[int], second: Collection[int]) -> list[str]:
        """Return the tensors that nodes of `first` make and nodes of `second` read."""
        made = {name for position in first for name in self.nodes[position].outputs}
        return sorted({name for position in second for name in self.nodes[position].inputs if name in made})

    def part(self, outputs: Sequence[str], given: Sequence[str] = ()) -> bytes:
        """Return the model that makes `outputs` from the tensors in `given` and the inputs that it still needs.

        Tensors in `given` whose type the file does not have are taken to be 32-bit floats.
        """
        nodes = [self.nodes[position] for position in sorted(self.needed(outputs, given))]
        read = {name for node in nodes for name in node.inputs}
        inputs = [name for name in (*self.inputs, *given) if name in read]
        graph = [_field(_NODE, _BYTES, node.message) for node in nodes]
        graph += [_field(_INITIALIZER, _BYTES, weight) for name, weight in self._weights.items() if name in read]
        graph += [_field(_INPUT, _BYTES, self._values.get(name) or _value(name, _FLOAT_TENSOR)) for name in inputs]
        graph += [_field(_OUTPUT, _BYTES, self._values.get(name) or _value(name)) for name in outputs]
        graph.append(_field(_NAME, _BYTES, b"part"))
        return b"".join((*self._header, _field(_MODEL_GRAPH, _BYTES, b"".join(graph))))


def _node(message: memoryview) -> Node:
    names: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _NODE_OP: []}
    for number, _, value in _fields(message):
        if number in names:
            names[number].append(str(value, "utf-8"))
    return Node("".join(names[_NODE_OP]), tuple(names[_NODE_INPUT]), tuple(names[_NODE_OUTPUT]), bytes(message))


def _text(message: memoryview, wanted: int) -> str:
    return next((str(value, "utf-8") for number, _, value in _fields(message) if number == wanted), "")


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield each field's number, its wire type, and its value: of a varint its bytes, else the content.

    Raises:
        ValueError, IndexError: the message is damaged.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            _, end = _varint(message, at)
        elif kind == _BYTES:
            size, at = _varint(message, at)
            end = at + size
        elif kind in (_FIXED32, _FIXED64):
            end = at + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"wire type {kind}")
        if end > len(message):
            raise ValueError("the message is cut off")
        yield key >> 3, kind, message[at:end]
        at = end


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return the number at a position, and the position after it."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _field(number: int, kind: int, value: bytes | memoryview) -> bytes:
    """Write a field; `value` as `_fields` yields it."""
    size = _number(len(value)) if kind == _BYTES else b""
    return _number(number << 3 | kind) + size + bytes(value)


def _number(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*written, value))


def _value(name: str, tensor_type: bytes = b"") -> bytes:
    """Write a `ValueInfoProto`."""
    kind = _field(_VALUE_TYPE, _BYTES, tensor_type) if tensor_type else b""
    return _field(_VALUE_NAME, _BYTES, name.encode()) + kind
