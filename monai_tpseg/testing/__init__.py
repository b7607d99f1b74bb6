"""What tests, demos and tutorials need and no product path uses: phantoms of every task and format."""
