"""What stands beside the kernels of a layer, and is added to their products."""
