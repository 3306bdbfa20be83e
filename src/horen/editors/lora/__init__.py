"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685) through the library peft."""

from horen.editors.lora.config import LoRAConfig
from horen.editors.lora.method import LoRA

__all__ = ["LoRA", "LoRAConfig"]
