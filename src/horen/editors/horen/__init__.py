"""HoReN itself behind the interface of all editors."""
