"""The viewer: a page, its requests and who may send them."""
