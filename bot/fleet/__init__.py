"""The fleet: jobs go to engines, and what they draw is committed."""
