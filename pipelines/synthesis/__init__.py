"""`zeuxis synthesize`: layouts in, labelled images out, by the thousand, the same bytes however often it is stopped."""
