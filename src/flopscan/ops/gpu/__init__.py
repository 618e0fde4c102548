"""What the CUDA kernels of the operators share: compiling and launching them, and the beginning of their sources."""
