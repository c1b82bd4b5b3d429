"""How good synthesised photographs are, measured beside rivals and with each stage switched off."""
