"""The same answers faster: products a block at a time, candidates from small copies of the keys, kernels."""
