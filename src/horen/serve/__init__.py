"""The service: one durable store behind an HTTP interface, an engine that answers, and a page for people."""

from horen.extras import require

require("store", "The service needs")
require("serve", "The service needs")
