"""How regions of pictures are filled for users: what they name, by which method, and what is shown of it."""
