"""What a store holds, counted."""
