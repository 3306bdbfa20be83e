"""What commands are made of: opening codebooks, checking files of edits, and writing them."""
