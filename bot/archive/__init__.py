"""What ended: pictures and records kept, counted, handed out and deleted."""
