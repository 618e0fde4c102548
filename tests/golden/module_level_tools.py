"""Which convention is which column of golden_vectors.json and peer_totals.json: counters of modules and functions."""

LAYERS = {
    "ptflops(pytorch)": "ptflops",
    "thop 0.1.1": "thop",
    "ultralytics-thop 2.2.3": "ultralytics-thop",
    "DeepSpeed 0.19.8 flops": "deepspeed",
    "DeepSpeed 0.19.8 macs": "deepspeed-macs",
    "calflops 0.3.2 flops": "calflops",
    "torchinfo 1.8.0": "torchinfo",
}
# these are its rules for each layer, undivided: in a whole model it divides by the batch, which a convention knows as a
# bug that can be left out: conventions.get("ptflops").without(UNDIVIDED["ptflops"])
UNDIVIDED = {"ptflops": "modules are divided by the batch, functions are not"}
# a tool's "value" and, where it gives them beside its FLOPs, "macs"
TOTALS = {
    "ptflops 0.7.5 (pytorch backend)": {"value": "ptflops"},
    "ultralytics-thop 2.2.3": {"value": "ultralytics-thop"},
    "calflops 0.3.2": {"value": "calflops", "macs": "calflops-macs"},
    "deepspeed 0.19.8": {"value": "deepspeed", "macs": "deepspeed-macs"},
    "torchinfo 1.8.0": {"value": "torchinfo"},
    "flopth 0.1.6": {"value": "flopth"},
}
