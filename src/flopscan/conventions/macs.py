"""MACs: multiply-adds of products, convolutions, attention, recurrences and scans."""

from flopscan.core.convention import Convention

CONVENTION = Convention(
    name="macs",
    unit="MAC",
    summary="multiply-adds of products, convolutions, attention and recurrences; nothing else",
    source="the 'GMACs' of model tables; half of FlopCounterMode where no scan and no causal mask occurs",
    scan="2bdln",
    ssd="2bdln",
    weights={"fma": 1},
)
