"""What gives a mask its class: clusters of its features."""
