"""What a running service tells of itself: metrics, traces and a log; without the text of prompts, unless asked."""
