"""Edits in vLLM: a plugin that routes each prompt once, before the engine sees it, and writes its edit's value.

What a request carries is all that its answer needs: the values themselves and where they go. Workers hold no codebook,
so edits may change between any two requests, on any number of workers, and a request keeps what it began with.
"""
