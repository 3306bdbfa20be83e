"""How an edit becomes an entry: conflicts, plan, reuse, write. Remove, merge and rekey change stored entries."""
