"""What is put before the programs of a pod; nothing here is imported by the node itself."""
