"""The methods that a benchmark compares, behind one interface: see :class:`horen.editors.interface.Method`."""

from horen.editors.editor import MethodEditor
from horen.editors.registry import METHODS, open_method, settings_of

__all__ = ["METHODS", "MethodEditor", "open_method", "settings_of"]
