"""Fitting how a model's prompts are read and routed, with a stated rate of false alarms."""
