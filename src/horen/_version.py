"""The package's version, read by the build and stamped into every saved codebook."""

__version__ = "0.1.0"
