"""Pictures like a reference region for users: what the generator sees, and what is shown and written."""
