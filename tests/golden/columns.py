"""Which convention is which column of golden_vectors.json (LAYERS) and of peer_totals.json (TOTALS)."""

LAYERS = {
    "torch.FlopCounterMode 2.15": "torch",
    "fvcore": "fvcore",
    "ptflops(pytorch)": "ptflops",
    "ptflops(aten)": "ptflops-aten",
    "thop 0.1.1": "thop",
    "ultralytics-thop 2.2.3": "ultralytics-thop",
    "DeepSpeed 0.19.8 flops": "deepspeed",
    "DeepSpeed 0.19.8 macs": "deepspeed-macs",
    "calflops 0.3.2 flops": "calflops",
    "torchprofile 0.1.0": "torchprofile",
    "torchinfo 1.8.0": "torchinfo",
    "torch_flops 0.4.1": "torch-flops",
    "torchscan 0.2.0 (module)": "torchscan",
}
# the column has the rules for each layer, undivided: of a whole model ptflops divides by the batch, which its
# convention knows as a mistake that can be left out
LEFT_OUT = {"ptflops": ("modules are divided by the batch, functions are not",)}
# a tool's "value" and, where it gives them beside its FLOPs, "macs"
TOTALS = {
    "fvcore 0.1.5.post20221221": {"value": "fvcore"},
    "ptflops 0.7.5 (pytorch backend)": {"value": "ptflops"},
    "ptflops 0.7.5 (aten backend)": {"value": "ptflops-aten"},
    "ultralytics-thop 2.2.3": {"value": "ultralytics-thop"},
    "calflops 0.3.2": {"value": "calflops", "macs": "calflops-macs"},
    "deepspeed 0.19.8": {"value": "deepspeed", "macs": "deepspeed-macs"},
    "torchprofile 0.1.0": {"value": "torchprofile"},
    "torchinfo 1.8.0": {"value": "torchinfo"},
    "torch_flops 0.4.1": {"value": "torch-flops"},
    "flopth 0.1.6": {"value": "flopth"},
    "torch FlopCounterMode 2.13, CPU tensors": {"value": "torch-2.13"},
    "torch FlopCounterMode 2.13, fake CPU tensors": {"value": "torch-2.13"},
}
