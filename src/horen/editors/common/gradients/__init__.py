"""What methods share that work on a linear module's inputs and output gradients."""

from horen.editors.common.gradients.capture import Captured, capture
from horen.editors.common.gradients.linear import Linear, layer_range, mlp_linears
from horen.editors.common.gradients.moments import Moments

__all__ = ["Captured", "Linear", "Moments", "capture", "layer_range", "mlp_linears"]
