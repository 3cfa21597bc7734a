"""What specialists could bring, before one is trained."""
