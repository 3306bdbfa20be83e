"""transformers' continuous batching, with an edit's values written into the rows of each request that woke one."""
