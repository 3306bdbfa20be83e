"""What other editors share."""
