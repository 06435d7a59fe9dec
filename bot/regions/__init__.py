"""Which part of a picture is meant: found in what was drawn on a copy, or by a name."""
