"""What touches a transformers model: loading, edit sites, the adapter, prompts, and the partial forward."""
