"""Fitting how a model's prompts are read and routed, with a stated rate of false alarms; needs an extra."""

from horen.extras import require

require("calibration", "Calibrating needs")
