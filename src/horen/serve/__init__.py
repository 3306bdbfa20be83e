"""The service: one durable store behind an HTTP interface, an engine that answers, and a page for people."""
