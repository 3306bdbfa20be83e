"""How an edit becomes an entry: conflicts, plan, reuse, write. Remove, merge, rekey and compact change stored entries."""
