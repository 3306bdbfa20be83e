"""Training drafts in a process of its own, so that who asks is not kept waiting."""
