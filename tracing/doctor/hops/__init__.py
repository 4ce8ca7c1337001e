"""The hops, a module a group; a group whose library is not installed cannot be imported."""
