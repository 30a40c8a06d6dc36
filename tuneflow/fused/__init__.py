"""Many trials of one structure as one program: traced once, cleaned, replayed without autograd."""
