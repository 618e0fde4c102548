"""What the executed tier of the selective scan says, against counters of the public CUDA kernels on an H100.

Two tables. The first has whole launches of the packages' own modules; the second the kernels of mamba_ssm alone, each
of their five launches in every form that B, C and the other operands may take.
"""

from __future__ import annotations

from typing import Any

import pytest

from flopscan.analysis import price_call
from flopscan.core.cost import Cost
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules.selective_scan_kernel import launch


def scan(direction: str, l: int, n: int, *words: str, b: int = 1, d: int = 1, g: int = 1) -> Cost:
    """The executed cost of a scan with D, delta_bias and softplus, but for what ``words`` change."""
    state = "complex64" if "complex" in words else "float32"
    dtype = next((word for word in words if word.endswith("float16")), "float32")
    steps, channel, constant = TensorSpec((b, d, l), dtype), TensorSpec((d,)), TensorSpec((d, n), state)
    varying = TensorSpec((b, g, n, l * (2 if "complex" in words else 1)), dtype)
    operands: dict[str, Any] = {"u": steps, "delta": steps, "A": constant}
    operands.update({name: constant if f"constant-{name}" in words else varying for name in ("B", "C")})
    operands.update({"D": channel, "z": steps, "delta_bias": channel, "delta_softplus": "plain" not in words})
    absent = {"D": "no-D" in words, "z": "z" not in words, "delta_bias": "no-bias" in words}
    operands = {name: value for name, value in operands.items() if not absent.get(name)}
    op = "flopscan::selective_scan"
    if direction == "backward":
        op, operands = f"{op}_backward", {"grad": steps, **operands}
    price = price_call(Call(op, operands, (steps,)))
    assert price.executed is not None, price.note
    return price.executed


# FADD, FMUL and FFMA in threads, MUFU in warps, of launches with b = 2, d = 64, float32, variable B and C: mamba_ssm
# 2.3 and, where g is 4, VMamba's oflex; ncu on an H100 80GB, CUDA 13.0, torch 2.11, November 2026.
LAUNCHES = {
    ("forward", 2048, 16): (786_432, 15_992_832, 17_563_648, 140_800),
    ("forward", 4096, 16): (1_572_864, 31_985_664, 35_127_296, 280_064),
    ("forward", 2048, 32): (786_432, 30_674_944, 32_243_712, 271_872),
    ("forward", 2048, 16, "z"): (1_048_576, 16_779_264, 17_563_648, 157_184),
    ("backward", 2048, 16): (11_419_392, 53_411_840, 33_226_752, 157_184),
    ("backward", 4096, 16): (22_707_968, 106_823_680, 66_453_504, 312_832),
    ("backward", 2048, 32): (21_133_056, 105_250_816, 63_307_776, 288_256),
    ("backward", 2048, 16, "z"): (11_943_680, 54_984_704, 33_488_896, 173_568),
    ("forward", 3136, 1, "g4"): (1_572_864, 4_456_704, 7_602_176, 35_840),
    ("backward", 3136, 1, "g4"): (4_492_928, 9_789_440, 10_215_424, 68_608),
}


@pytest.mark.parametrize("case", LAUNCHES, ids=str)
def test_launches_of_the_packages_are_counted_exactly(case: tuple[Any, ...]) -> None:
    b, d = 2, 64
    cost = scan(*case, b=b, d=d, g=4 if "g4" in case else 1)
    *arithmetic, mufu = LAUNCHES[case]
    assert [cost.add, cost.mul, cost.fma] == arithmetic
    # a thread divides its channel by those of a group, in oflex also by those that share a delta: a reciprocal between
    # two conversions, which are in the same unit
    division = (2 if "g4" in case else 1) * 3 * launch(case[1]).threads * b * d
    assert cost.exp + cost.trig + cost.div + division == 32 * mufu


# One block of a launch with n = 2: FADD FMUL FFMA | EX2, SIN and COS, RCP where they were told apart | by what part of
# its FLOPs the stated cost may be off. Operands by name, D, delta_bias and softplus beside. ncu 2025.3 on an H100 80GB,
# the sources of mamba_ssm 2.3.2 built for sm_90 by CUDA 13.0.88 with their own flags, delta = normal / 2 - 2,
# 24 November 2026.
BLOCKS = """
forward   100 |                                   | 384 1730 2496            | 384 0 32         | 0
forward   128 |                                   | 384 1730 2496            | 384 0 32         | 0
forward   128 | plain                             | 128 1346 1088            | 256 0 32         | 0
forward   128 | z                                 | 512 2114 2496            | 512 0 160        | 0
forward   128 | constant-C                        | 384 1730 2496            | 384 0 32         | 0
forward   128 | constant-B                        | 384 1730 2496            | 384 0 32         | 0
forward   128 | constant-B constant-C             | 384 1538 2496            | 384 0 0          | 0
forward   196 |                                   | 768 3138 4672            | 768 0 32         | 0
forward   256 |                                   | 768 3138 4672            | 768 0 32         | 0
forward   256 | plain                             | 256 2370 1856            | 512 0 32         | 0
forward   256 | z                                 | 1024 3906 4672           | 1024 0 288       | 0
forward   300 |                                   | 1536 5954 9024           | 1536 0 32        | 0
forward   512 |                                   | 1536 5954 9024           | 1536 0 32        | 0
forward   512 | plain                             | 512 4418 3392            | 1024 0 32        | 0
forward   512 | z                                 | 2048 7490 9024           | 2048 0 544       | 0
forward   784 |                                   | 3072 11972 18176         | 3072 0 64        | 0.002
forward  1024 |                                   | 3072 11972 18176         | 3072 0 64        | 0.002
forward  1024 | plain                             | 1024 8900 6912           | 2048 0 64        | 0.003
forward  1024 | z                                 | 4096 15044 18176         | 4096 0 1088      | 0.002
forward  1024 | constant-C                        | 3072 11972 18176         | 3072 0 64        | 0.002
forward  1024 | constant-B                        | 3072 11972 18176         | 3072 0 64        | 0.002
forward  1024 | constant-B constant-C             | 3072 10052 18176         | 3072 0 0         | 0.002
forward  2048 |                                   | 6144 24578 36864         | 6144 0 128       | 0
forward  2048 | no-D                              | 6144 24578 36864         | 6144 0 128       | 0
forward  2048 | no-bias                           | 6144 24578 36864         | 6144 0 128       | 0
forward  2048 | plain                             | 2048 18434 14336         | 4096 0 128       | 0
forward  2048 | z                                 | 8192 30722 36864         | 8192 0 2176      | 0
forward  2048 | constant-C                        | 6144 24578 36864         | 6144 0 128       | 0
forward  2048 | constant-B                        | 6144 24578 36864         | 6144 0 128       | 0
forward  2048 | constant-B constant-C             | 6144 20738 36864         | 6144 0 0         | 0
forward  3136 |                                   | 12288 49156 73728        | 12288 0 128      | 0
forward  3136 | z                                 | 16384 61444 73728        | 16384 0 4224     | 0
forward  6144 |                                   | 18432 73734 110592       | 18432 0 128      | 0
forward  1024 | bfloat16                          | 3072 11972 18176         | -                | 0.002
forward  2048 | float16 z                         | 8192 30722 36864         | -                | 0
forward   100 | complex                           | 2048 5692 4798           | 384 512 32       | 0.015
forward   128 | complex                           | 2048 5692 4798           | 384 512 32       | 0.015
forward   128 | complex constant-C                | 2048 5692 4798           | 384 512 32       | 0.015
forward   128 | complex constant-B                | 2048 5692 5310           | 384 512 32       | 0.014
forward   128 | complex constant-B constant-C     | 2048 5308 4926           | 384 512 0        | 0.015
forward   196 | complex                           | 3456 9916 8254           | 768 1024 32      | 0.009
forward   256 | complex                           | 3456 9916 8254           | 768 1024 32      | 0.009
forward   300 | complex                           | 6272 18364 15166         | 1536 2048 32     | 0.005
forward   512 | complex                           | 6272 18364 15166         | 1536 2048 32     | 0.005
forward   784 | complex                           | 12800 37244 30844        | 3072 4096 64     | 0.005
forward  1024 | complex                           | 12800 37244 30844        | 3072 4096 64     | 0.005
forward  1024 | complex constant-C                | 12800 37244 30844        | 3072 4096 64     | 0.005
forward  1024 | complex constant-B                | 12800 37244 34940        | 3072 4096 64     | 0.005
forward  1024 | complex constant-B constant-C     | 12800 33404 31100        | 3072 4096 0      | 0.005
forward  2048 | complex                           | 26624 76540 63736        | 6144 8192 128    | 0.005
forward  2048 | complex constant-C                | 26624 76540 63736        | 6144 8192 128    | 0.005
forward  2048 | complex constant-B                | 26624 76540 71928        | 6144 8192 128    | 0.004
forward  2048 | complex constant-B constant-C     | 26624 68860 64248        | 6144 8192 0      | 0.005
forward  3136 | complex                           | 53248 153080 127472      | 12288 16384 128  | 0.005
forward  6144 | complex                           | 79872 229620 191208      | 18432 24576 128  | 0.005
backward  100 |                                   | 1860 4484 3904           | 512 0 160        | 0
backward  128 |                                   | 1860 4292 3840           | 512 0 160        | 0.010
backward  128 | plain                             | 1604 3780 2432           | 256 0 32         | 0.013
backward  128 | z                                 | 2116 5060 3968           | 640 0 288        | 0.009
backward  128 | constant-C                        | 2118 4036 4096           | 512 0 160        | 0.009
backward  128 | constant-B                        | 2246 4420 3968           | 512 0 160        | 0.009
backward  128 | constant-B constant-C             | 2182 3368 4032           | 512 0 128        | 0.012
backward  196 |                                   | 3140 8388 7296           | 1024 0 288       | 0
backward  256 |                                   | 3140 8260 7168           | 1024 0 288       | 0
backward  256 | plain                             | 2628 6980 4352           | 512 0 32         | 0.014
backward  256 | z                                 | 3652 9796 7424           | 1280 0 544       | 0
backward  300 |                                   | 5700 16260 14144         | 2048 0 544       | 0
backward  512 |                                   | 5700 15940 13824         | 2048 0 544       | 0
backward  512 | plain                             | 4164 13380 8192          | 1024 0 32        | 0
backward  512 | z                                 | 6724 19012 14336         | 2560 0 1056      | 0
backward  784 |                                   | 11404 32320 27840        | 4096 0 1088      | 0
backward 1024 |                                   | 11404 31680 27200        | 4096 0 1088      | 0
backward 1024 | plain                             | 8332 26560 15936         | 2048 0 64        | 0
backward 1024 | z                                 | 13452 37824 28224        | 5120 0 2112      | 0
backward 1024 | constant-C                        | 12050 29760 29120        | 4096 0 1088      | 0
backward 1024 | constant-B                        | 14098 31808 27072        | 4096 0 1088      | 0.021
backward 1024 | constant-B constant-C             | 13842 23492 27328        | 4096 0 1024      | 0.023
backward 2048 |                                   | 22812 62912 53952        | 8192 0 2176      | 0
backward 2048 | no-D                              | 22293 62912 53952        | 8192 0 2176      | 0
backward 2048 | no-bias                           | 22293 62912 53952        | 8192 0 2176      | 0
backward 2048 | plain                             | 17948 52672 31424        | 4096 0 128       | 0.010
backward 2048 | z                                 | 26908 75200 56000        | 10240 0 4224     | 0
backward 2048 | constant-C                        | 24106 59072 57792        | 8192 0 2176      | 0
backward 2048 | constant-B                        | 28202 63168 53696        | 8192 0 2176      | 0.021
backward 2048 | constant-B constant-C             | 27690 48068 54208        | 8192 0 2048      | 0.014
backward 3136 |                                   | 44588 128384 110464      | 16384 0 4224     | 0
backward 3136 | z                                 | 52780 152960 114560      | 20480 0 8320     | 0
backward 6144 |                                   | 66364 188736 161856      | 24576 0 6272     | 0
backward  100 | bfloat16                          | 1604 4420 4096           | -                | 0
backward  128 | bfloat16                          | 1604 4420 4096           | -                | 0
backward  196 | bfloat16                          | 2628 8260 7680           | -                | 0
backward  256 | bfloat16                          | 2628 8260 7680           | -                | 0
backward  256 | bfloat16 z                        | 3140 9796 7936           | -                | 0
backward  256 | bfloat16 z plain                  | 2116 8516 5120           | -                | 0
backward  300 | bfloat16                          | 4676 16260 14848         | -                | 0.007
backward  512 | bfloat16                          | 4676 15940 14848         | -                | 0
backward  784 | bfloat16                          | 9356 32576 29248         | -                | 0.009
backward 1024 | bfloat16                          | 9356 31680 29248         | -                | 0
backward 2048 | bfloat16                          | 18716 62912 58048        | -                | 0
backward 2048 | bfloat16 plain                    | 10524 52672 35520        | -                | 0
backward 2048 | bfloat16 constant-C               | 20010 59072 61888        | -                | 0
backward 2048 | bfloat16 constant-B               | 24106 61120 57792        | -                | 0.011
backward 2048 | bfloat16 constant-B constant-C    | 23594 44484 58304        | -                | 0.012
backward 3136 | bfloat16                          | 36396 125824 116096      | -                | 0
backward  196 | float16                           | 2628 8260 7680           | -                | 0
backward 2048 | float16                           | 18716 62912 58048        | -                | 0
backward  100 | complex                           | 4870 11716 10438         | 512 512 160      | 0.020
backward  128 | complex                           | 4870 11716 10438         | 512 512 160      | 0.020
backward  128 | complex constant-C                | 5514 11588 10566         | 512 512 160      | 0.026
backward  128 | complex constant-B                | 6282 11780 11206         | 512 512 160      | 0.014
backward  128 | complex constant-B constant-C     | 6666 10060 9038          | 512 512 128      | 0.043
backward  196 | complex                           | 7558 20932 18886         | 1024 1024 288    | 0.004
backward  256 | complex                           | 7558 20932 18886         | 1024 1024 288    | 0.004
backward  300 | complex                           | 12934 40260 35782        | 2240 2240 544    | 0.014
backward  512 | complex                           | 12934 39364 35782        | 2048 2048 544    | 0.007
backward  784 | complex                           | 32658 81024 62398        | 4096 4096 1088   | 0.005
backward 1024 | complex                           | 32658 81024 62398        | 4096 4096 1088   | 0.005
backward 1024 | complex constant-C                | 33950 79232 64190        | 4096 4096 1088   | 0.014
backward 1024 | complex constant-B                | 41118 78208 70334        | 4096 4096 1088   | 0.004
backward 1024 | complex constant-B constant-C     | 37790 63880 56518        | 4096 4096 1024   | 0.020
backward 2048 | complex                           | 64426 160000 122814      | 8192 8192 2176   | 0.003
backward 2048 | complex plain                     | 61354 149760 100286      | 4096 8192 128    | 0.005
backward 2048 | complex z                         | 68522 172288 124862      | 10240 8192 4224  | 0.003
backward 2048 | complex constant-C                | 67014 156416 126398      | 8192 8192 2176   | 0.011
backward 2048 | complex constant-B                | 81350 154368 138686      | 8192 8192 2176   | 0.006
backward 2048 | complex constant-B constant-C     | 74694 125704 111046      | 8192 8192 2048   | 0.018
backward 3136 | complex                           | 127818 320000 245628     | 16384 16384 4224 | 0.003
backward 6144 | complex                           | 191210 480000 368442     | 24576 24576 6272 | 0.003
backward  256 | bfloat16 complex                  | 7558 20932 18886         | -                | 0.004
backward 2048 | bfloat16 complex                  | 64426 160000 122814      | -                | 0.003
"""
CUT_SHORT = "backward 300 complex"  # its backward computes up to 3 of 16 exponentials twice


def flops(add: int, mul: int, fma: int) -> int:
    """FLOPs of the three instructions."""
    return add + mul + 2 * fma


@pytest.mark.parametrize("row", BLOCKS.strip().splitlines(), ids=lambda row: " ".join(row.split("|")[0:2]))
def test_blocks_of_every_launch_and_form(row: str) -> None:
    launched, words, instructions, functions, tolerance = row.split("|")
    direction, length = launched.split()
    cost = scan(direction, int(length), 2, *words.split())
    stated, counted = (cost.add, cost.mul, cost.fma), tuple(map(int, instructions.split()))
    if float(tolerance) == 0:
        assert stated == counted
    assert abs(flops(*stated) - flops(*counted)) <= float(tolerance) * flops(*counted)
    if functions.strip() != "-" and " ".join([*launched.split(), *words.split()]) != CUT_SHORT:
        divides = not ("constant-B" in words and "constant-C" in words)  # the channel, as above
        division = launch(int(length)).threads if divides else 0
        assert [cost.exp, cost.trig, cost.div + division] == [int(count) for count in functions.split()]


def test_a_chunk_is_executed_whole() -> None:
    assert scan("forward", 49, 16).arithmetic() == scan("forward", 128, 16).arithmetic()
    assert [launch(l).steps * launch(l).chunks for l in (1, 128, 129, 256, 257, 512, 513, 1024, 1025, 2049)] == [
        128, 128, 256, 256, 512, 512, 1024, 1024, 2048, 4096,
    ]  # fmt: skip


def test_flops_of_an_element_as_the_docstrings_have_them() -> None:
    def slope(direction: str, l: int) -> float:
        more, less = scan(direction, l, 3), scan(direction, l, 2)
        return flops(more.add - less.add, more.mul - less.mul, more.fma - less.fma) / l

    lengths = (128, 256, 512, 1024, 2048)
    assert [round(slope("forward", l), 1) for l in lengths] == [12.8, 10.9, 9.9, 10.1, 10.5]
    assert [round(slope("backward", l), 1) for l in lengths] == [35.5, 31.8, 29.9, 29.3, 29.0]
