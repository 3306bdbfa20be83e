"""Who and what a prompt asks: keys of subject and relation, and the judge of candidates."""
