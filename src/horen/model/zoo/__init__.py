"""Where models and encoders come from."""
