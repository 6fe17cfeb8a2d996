"""What measures speed and memory, and the peers that it is measured against."""
