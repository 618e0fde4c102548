"""FLOPs, the default: what floating-point arithmetic a machine must do, transcendentals apart."""

from flopscan.core.convention import Convention

CONVENTION = Convention(
    name="flops",
    unit="FLOP",
    summary="multiply-add 2, other arithmetic 1, exp and log and trigonometric apart",
    source="two operations per multiply-add as in LINPACK and in torch's FlopCounterMode",
    scan="6bdln + bdl terms, bdln exp apart",
    ssd="5bdln + bdl terms, blh exp apart",
    weights={"fma": 2, "add": 1, "mul": 1, "div": 1, "sqrt": 1, "cmp": 1},
)
