"""What several tests build on: tiny models, tiny tokenizers and editors of both."""
