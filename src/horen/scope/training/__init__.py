"""How the networks of a scope are trained."""
