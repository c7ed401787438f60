"""Read a batch of the CIFAR archives, which is a pickle, without Python's unpickler.

Python's unpickler lets a file of a few hundred kilobytes make gigabytes of objects, or tuples whose hash takes years.
This reader knows the operations that such a batch consists of and no other. Its results are dictionaries, lists,
tuples, whole numbers, texts, bytes and stand-ins for arrays of bytes; all of them together take a few times the memory
of the file at most, keys are texts, bytes or numbers, and each operation takes bounded time.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

VALUES = 3 * 32 * 32  # bytes of one image
MOST_OPERATIONS = 2_000_000  # of one batch; the largest official one has some 600,000
_MOST_CONTAINERS = 500_000  # Python 3 wraps each file name in one tuple, of 50,000
_COPIES = 2  # bytes of memory from one byte of the batch: Python 3 writes bytes as a text, which is read as both
_SMALL = 64 << 20  # bytes of memory that any batch may take
_LARGEST_NUMBER = 2**63


@dataclass
class Array:
    """A stand-in for numpy.ndarray: its shape, type and raw bytes, once they are known."""

    state: Any = None

    def values(self) -> Any:
        """Return the array, (n, 3072) uint8.

        Raises:
            ValueError: it does not hold unsigned bytes in C order, or their number does not fit its shape.
        """
        import numpy as np

        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("an array without content")
        _, shape, dtype, fortran, raw = self.state
        plain = type(fortran) in (bool, int) and not fortran
        if not isinstance(dtype, Dtype) or dtype.code != "u1" or not plain or not isinstance(raw, bytes):
            raise ValueError("an array that is not of bytes in C order")
        if not isinstance(shape, tuple) or len(shape) != 2 or not all(type(side) is int for side in shape):
            raise ValueError("an array that is not a table")
        if shape[1] != VALUES or shape[0] * VALUES != len(raw):
            raise ValueError(f"an array of {shape[0]} x {shape[1]} values with {len(raw)} bytes")
        return np.frombuffer(raw, np.uint8).reshape(shape)


@dataclass(frozen=True)
class Dtype:
    """A stand-in for numpy.dtype: the type's code."""

    code: object


class _Mark:
    """Where the operations put the beginning of a list, tuple or dictionary."""


@dataclass(frozen=True)
class _Name:
    """One of the few names that a batch mentions."""

    module: object
    name: object


_MARK = _Mark()
_NDARRAY, _DTYPE = _Name("numpy", "ndarray"), _Name("numpy", "dtype")
_RECONSTRUCT = (
    _Name("numpy.core.multiarray", "_reconstruct"),
    _Name("numpy._core.multiarray", "_reconstruct"),
)
_ENCODE = _Name("_codecs", "encode")  # how Python 3 writes bytes for old protocols
_KNOWN = {_NDARRAY, _DTYPE, *_RECONSTRUCT, _ENCODE}


def read_batch(data: bytes) -> dict[str | bytes | int, Any]:
    """Read one batch.

    Args:
        data: a pickle of a dictionary, of protocol 0 to 5.

    Raises:
        ValueError: it is damaged, holds anything but a batch, or asks for more memory than its length explains.
    """
    reader = _Reader(_COPIES * len(data) + _SMALL)
    for number, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if number >= MOST_OPERATIONS:
            raise ValueError(f"more than {MOST_OPERATIONS} operations")
        reader.take(operation.name, argument)
    value = reader.result()
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}, not a dictionary")
    return value


class _Reader:
    """The state of one reading: a stack of values, and the values that were stored for later."""

    def __init__(self, budget: int) -> None:
        self._stack: list[Any] = []
        self._stored: dict[int, Any] = {}
        self._budget, self._containers = budget, 0

    def take(self, name: str, argument: Any) -> None:
        """Carry out one operation."""
        if name in _IGNORED:
            return
        if name in _CONSTANTS:
            self._push(_CONSTANTS[name])
        elif name in _NUMBERS:
            if type(argument) not in (int, bool) or abs(argument) > _LARGEST_NUMBER:
                raise ValueError("a number that no batch needs")
            self._push(argument)
        elif name in _TEXTS:
            self._push(self._paid(argument))
        elif name in _OLD_TEXTS:  # Python 2's str, which pickletools shows as text
            self._push(self._paid(argument.encode("latin1")))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._stored[argument] = self._top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self._stored:
                raise ValueError("it takes a value that it has not stored")
            self._push(self._stored[argument])
        elif name in self._ACTIONS:
            self._ACTIONS[name](self, argument)
        else:
            raise ValueError(f"the operation {name}, which no CIFAR batch needs")

    def result(self) -> Any:
        """Return the only value that is left."""
        if len(self._stack) != 1:
            raise ValueError("it does not end with one value")
        return self._stack[0]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _top(self) -> Any:
        if not self._stack:
            raise ValueError("it takes a value where there is none")
        return self._stack[-1]

    def _pop(self, kind: type | tuple[type, ...] = object) -> Any:
        value = self._top()
        if value is _MARK or not isinstance(value, kind):
            raise ValueError("a value of a kind that no CIFAR batch has there")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        for at in range(len(self._stack) - 1, -1, -1):
            if self._stack[at] is _MARK:
                values = self._stack[at + 1 :]
                del self._stack[at:]
                return values
        raise ValueError("it ends a list that it has not begun")

    def _paid(self, made: Any) -> Any:
        """Count the memory of something new against what the length of the batch explains."""
        self._budget -= sys.getsizeof(made)
        if self._budget < 0:
            raise ValueError("it asks for more memory than its length explains")
        return made

    def _container(self, value: Any) -> None:
        self._containers += 1
        if self._containers > _MOST_CONTAINERS:
            raise ValueError(f"more than {_MOST_CONTAINERS} lists, tuples and dictionaries")
        self._push(value)

    def _tuple(self, length: int) -> None:
        values = [self._pop() for _ in range(length)]
        self._container(tuple(reversed(values)))

    def _appends(self, values: list[Any]) -> None:
        self._target(list).extend(values)

    def _set_items(self, values: list[Any]) -> None:
        self._fill(self._target(dict), values)

    def _fill(self, target: dict[Any, Any], values: list[Any]) -> None:
        if len(values) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in (bytes, str, int):  # the hash of a tuple of tuples takes any time
                raise ValueError("a key that is neither a text nor a number")
            target[key] = value

    def _target(self, kind: type) -> Any:
        if not isinstance(self._top(), kind):
            raise ValueError("a value of a kind that no CIFAR batch has there")
        return self._top()

    def _dict_from_mark(self) -> None:
        values = self._pop_to_mark()
        made: dict[Any, Any] = {}
        self._fill(made, values)
        self._container(made)

    def _named(self, module: object, name: object) -> None:
        known = _Name(module, name) if isinstance(module, str) and isinstance(name, str) else None
        if known not in _KNOWN:
            raise ValueError(f"it names {module!s:.60}.{name!s:.60}, which no CIFAR batch needs")
        self._push(known)

    def _named_on_stack(self) -> None:
        name, module = self._pop(str), self._pop(str)
        self._named(module, name)

    def _named_in_line(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._named(module, name)

    def _call(self) -> None:
        values, known = self._pop(tuple), self._pop(_Name)
        if known == _DTYPE:
            code = values[0] if values else None
            self._container(Dtype(code.decode("ascii", "replace") if isinstance(code, bytes) else code))
        elif known in _RECONSTRUCT:
            self._container(Array())
        elif known == _ENCODE:
            self._push(self._encoded(*values) if len(values) == 2 else self._encoded(None, None))
        else:
            raise ValueError("it makes an object that no CIFAR batch needs")

    def _encoded(self, text: object, encoding: object) -> bytes:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise ValueError("an encoding other than latin1")
        return bytes(self._paid(text.encode("latin1")))

    def _build(self) -> None:
        state = self._pop()
        target = self._target((Array, Dtype))  # type: ignore[arg-type]
        if isinstance(target, Array):  # of a type: byte order and the like, which mean nothing for single bytes
            target.state = state

    _ACTIONS: ClassVar[dict[str, Callable[[_Reader, Any], None]]] = {
        "MARK": lambda self, _: self._push(_MARK),
        "POP": lambda self, _: self._stack.pop() if self._top() is _MARK else self._pop(),
        "EMPTY_LIST": lambda self, _: self._container([]),
        "EMPTY_DICT": lambda self, _: self._container({}),
        "EMPTY_TUPLE": lambda self, _: self._container(()),
        "LIST": lambda self, _: self._container(self._pop_to_mark()),
        "TUPLE": lambda self, _: self._container(tuple(self._pop_to_mark())),
        "TUPLE1": lambda self, _: self._tuple(1),
        "TUPLE2": lambda self, _: self._tuple(2),
        "TUPLE3": lambda self, _: self._tuple(3),
        "DICT": lambda self, _: self._dict_from_mark(),
        "APPEND": lambda self, _: self._appends([self._pop()]),
        "APPENDS": lambda self, _: self._appends(self._pop_to_mark()),
        "SETITEM": lambda self, _: self._set_items(list(reversed([self._pop(), self._pop()]))),
        "SETITEMS": lambda self, _: self._set_items(self._pop_to_mark()),
        "MEMOIZE": lambda self, _: self._stored.__setitem__(len(self._stored), self._top()),
        "GLOBAL": lambda self, argument: self._named_in_line(argument),
        "STACK_GLOBAL": lambda self, _: self._named_on_stack(),
        "REDUCE": lambda self, _: self._call(),
        "BUILD": lambda self, _: self._build(),
    }


_IGNORED = {"PROTO", "FRAME", "STOP"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"}
_TEXTS = {
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_OLD_TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
