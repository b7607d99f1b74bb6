"""The viewer: page, requests and access control."""
