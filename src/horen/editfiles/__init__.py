"""Files of edits, and how any file is read and written safely."""
