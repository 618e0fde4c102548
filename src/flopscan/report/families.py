"""What a call belongs to, in words that every convention shares: "linear", "convolution", "attention", "layer norm"."""

from __future__ import annotations

import re

from flopscan.core.ledger import Ledger
from flopscan.core.trace import Call, Record

_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"selective_scan|state_update|SelectiveScan", "selective scan"),
    (r"\bssd|chunk_scan", "SSD"),
    (r"delta_rule|kda", "delta rule"),
    (r"causal_conv1d", "convolution"),
    (r"[mM]ulti_?[hH]ead_?[aA]ttention", "multi-head attention"),
    (r"[aA]ttention", "attention products"),
    (r"^Conv1D$", "linear"),  # transformers calls a linear layer so
    (r"conv|Conv", "convolution"),
    (r"bilinear(?!2d)|Bilinear(?!2d)", "bilinear layer"),
    (r"::linear$|^Linear$|NonDynamicallyQuantizableLinear", "linear"),
    (r"layer_?norm|LayerNorm", "layer norm"),
    (r"rms_?norm|RMSNorm", "RMS norm"),
    (r"batch_?norm|BatchNorm", "batch norm"),
    (r"group_?norm|GroupNorm", "group norm"),
    (r"instance_?norm|InstanceNorm", "instance norm"),
    (r"softmax|Softmax", "softmax"),
    (r"pool|Pool", "pooling"),
    (r"upsample|interpolate|Upsample|grid_sample", "interpolation"),
    (r"embedding|Embedding", "embedding"),
    (r"dropout|Dropout", "dropout"),
    (r"lstm|LSTM|gru|GRU|rnn|RNN", "recurrent layers"),
    (r"einsum", "einsum"),
    (r"_grouped_mm", "grouped matrix products"),
    (r"aten::(addmm|_addmm|mm|bmm|baddbmm|mv|addmv|dot|vdot)\b|torch::(matmul|rmatmul|mm|bmm|addmm|baddbmm|mv)",
     "matrix products"),
    (r"relu|elu|silu|gelu|mish|sigmoid|tanh|swish|softplus|threshold|glu|[rR]e[lL][uU]|ELU|SiLU|GELU|Sigmoid|Tanh"
     r"|Hardswish|Mish|Softplus|Activation", "activations"),
    (r"fft", "FFT"),
    (r"::(mean|sum|var|std|prod|norm|amax|amin|cumsum)", "reductions"),
    (r"::(add|sub|mul|div|rsub|pow|sqrt|rsqrt|exp|log|neg|abs|add_|mul_|sub_|div_|reciprocal|sin|cos|where|clamp)",
     "elementwise"),
)  # fmt: skip
_COMPILED = tuple((re.compile(pattern), family) for pattern, family in _PATTERNS)
_cache: dict[str, str] = {}


def family(name: str) -> str:
    """The family of an operator, function or module class by its name in a trace; its bare name where none is known."""
    found = _cache.get(name)
    if found is None:
        short = name.rpartition(".")[2] if name.startswith("module::") else name
        found = next((words for pattern, words in _COMPILED if pattern.search(short)), "")
        if not found:
            found = f"module {short}" if name.startswith("module::") else name
        _cache[name] = found
    return found


def family_of(call: Call) -> str:
    """The family of a call; of a module's class by what it is derived from, if its own name says nothing."""
    found = family(call.op)
    for base in call.get("bases", ()) if found.startswith("module ") else ():
        derived = family(f"module::.{base}")
        if not derived.startswith("module "):
            return derived
    return found


class Families:
    """The family and the place of each record of a ledger, where ``frames`` are taken whole."""

    def __init__(self, ledger: Ledger, frames: frozenset[int]) -> None:
        self._trace = ledger.trace
        self._known = frames
        self._frames = {(frame.call, frame.parent): i for i, frame in enumerate(ledger.trace.frames)}

    def place(self, record: Record) -> tuple[str, int]:
        """The family, and the outermost frame that is taken whole (-1 for none).

        The family is that frame's; else that of the nearest function around that says more; else the record's own.
        """
        outermost, nearest = self._envelope(record), ""
        frame = record.inside
        while frame >= 0:
            name = self._trace.calls[self._trace.frames[frame].call].op
            if frame in self._known:
                outermost = frame
            if not nearest and name.startswith("torch::"):
                nearest = name
            frame = self._trace.frames[frame].parent
        own = self._trace.calls[record.call]
        if outermost >= 0:
            return family_of(self._trace.calls[self._trace.frames[outermost].call]), outermost
        if nearest and family_of(own) == "matrix products":
            return family(nearest), -1
        return family_of(own), -1

    def is_frame(self, record: Record, frame: int) -> bool:
        """Whether the record is the call that ``frame`` is made of."""
        return record.envelope and self._frames.get((record.call, record.inside), -1) == frame

    def _envelope(self, record: Record) -> int:
        """The frame that the record is itself, if it is taken whole; -1 elsewhere."""
        index = self._frames.get((record.call, record.inside), -1) if record.envelope else -1
        return index if index in self._known else -1
