"""llama.cpp's own server on loopback, with the packaged Gemma as it is or in full precision."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

_SERVE = """
import sys, xllamacpp as x
p = x.CommonParams()
p.model.path, p.port, p.n_ctx, p.n_parallel = sys.argv[1], 0, 4096, 2
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1  # more would spin, and share our cores
p.verbosity = -1
p.cache_type_k = p.cache_type_v = x.ggml_type.GGML_TYPE_F32
p.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = x.Server(p)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def serving(gguf: Path) -> Iterator[str]:
    """Serve a GGUF file on a free port and yield the API's address."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(gguf)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http"), "the server did not start"
        yield f"{address}/v1"
    finally:
        process.kill()
        process.wait()


def in_full_precision(source: Path, target: Path) -> Path:
    """Write a GGUF file again with every tensor dequantised to float32.

    The format: github.com/ggml-org/ggml/blob/master/docs/gguf.md. The metadata are copied byte by
    byte, as reading 262,144 tokens into objects takes longer than all else.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

    data = np.memmap(source, dtype=np.uint8, mode="r")
    reader = _Reader(data[: 32 << 20].tobytes())
    magic, version, tensors, entries = reader.take("<4sIQQ")
    assert magic == b"GGUF"
    begin = reader.at
    for _ in range(entries):
        reader.text()
        reader.skip_value(reader.take("<I")[0])
    metadata = reader.data[begin : reader.at]
    infos = []
    for _ in range(tensors):
        name = reader.text()
        (count,) = reader.take("<I")
        shape = reader.take(f"<{count}Q")
        kind, offset = reader.take("<IQ")
        infos.append((name, shape, GGMLQuantizationType(kind), offset))
    start = _aligned(reader.at)
    with target.open("wb") as file:
        file.write(struct.pack("<4sIQQ", magic, version, tensors, entries) + metadata)
        place = 0
        for name, shape, _, _ in infos:
            raw = name.encode()
            file.write(
                struct.pack(f"<Q{len(raw)}sI{len(shape)}Q", len(raw), raw, len(shape), *shape)
            )
            file.write(struct.pack("<IQ", int(GGMLQuantizationType.F32), place))
            place += _aligned(4 * int(np.prod(shape)))
        for _, shape, kind, offset in infos:
            file.write(b"\0" * (_aligned(file.tell()) - file.tell()))
            block, size = GGML_QUANT_SIZES[kind]
            width = shape[0] // block * size
            rows = int(np.prod(shape[1:], dtype=np.int64))
            packed = data[start + offset :][: rows * width].reshape(rows, width)
            plain: Any = packed.view(np.float32) if kind == 0 else dequantize(packed, kind)
            np.ascontiguousarray(plain, dtype=np.float32).tofile(file)
    return target


_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _ARRAY = 8, 9


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return found

    def text(self) -> str:
        (length,) = self.take("<Q")
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def skip_value(self, kind: int) -> None:
        if kind == _TEXT:
            (length,) = self.take("<Q")
            self.at += length
        elif kind == _ARRAY:
            inner, count = self.take("<IQ")
            if inner in _SIZES:
                self.at += _SIZES[inner] * count
                return
            for _ in range(count):
                self.skip_value(inner)
        else:
            self.at += _SIZES[kind]


def _aligned(place: int) -> int:
    return -(-place // 32) * 32
